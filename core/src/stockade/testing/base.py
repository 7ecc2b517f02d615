"""What all checks share: the provider, sessions, gates, and how a failure reads."""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import pytest

import stockade
from stockade.capabilities import Feature, Isolation
from stockade.config import SandboxConfig
from stockade.errors import UnsupportedError
from stockade.executions._execution import Execution
from stockade.executions._languages import languages_of
from stockade.results import SandboxResult
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing.circumstances import ALONE, CIRCUMSTANCES, Circumstance, repeat
from stockade.testing.guard import anywhere, guarded
from stockade.testing.probes.base import relaxed
from stockade.testing.programs import Program, say, sleep
from stockade.testing.report.recorder import Recorder
from stockade.testing.shared import SharedSession

__all__ = ["TIME_FACTOR_VARIABLE", "ConformanceBase", "anywhere", "expect"]

#: Sets the default of ``time_factor``.
TIME_FACTOR_VARIABLE = "STOCKADE_TIME_FACTOR"

_FORMS = (Feature.ARGV, Feature.SHELL, Feature.CODE)


def _time_factor() -> float:
    text = os.environ.get(TIME_FACTOR_VARIABLE, "1") or "1"
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise ValueError(f"{TIME_FACTOR_VARIABLE}={text!r} is not allowed: a number above 0, as 4.")
    return factor


def expect(condition: object, clause: str, expected: str, seen: object, look: str = "") -> None:
    """Fail with the clause, what was expected, what was seen, and where to look."""
    if condition:
        return
    if not look:
        caller = inspect.stack()[1]
        look = f"{caller.filename}:{caller.lineno}, {caller.function}"
    pytest.fail(
        f"{clause}\n  expected: {expected}\n  seen:     {seen!r:.600}\n  look at:  {look}", False
    )


class ConformanceBase:
    """Set ``provider``, and nothing else unless the wall deviates."""

    #: The provider string of the wall to check.
    provider: ClassVar[str] = ""
    #: The heading of its report and the name of the report's file; default ``name:target``.
    title: ClassVar[str] = ""
    #: Check's name (``D13_...`` or ``test_D13_...``) to the reason why it does not hold.
    #: A deviation is run, and fails when it stops deviating.
    deviations: ClassVar[Mapping[str, str]] = {}
    #: As ``deviations``, of checks that hold at times: they do not fail when they do.
    unsteady: ClassVar[Mapping[str, str]] = {}
    #: Widens every time bound and every wait, for machines that are emulated; its default
    #: comes from the environment variable STOCKADE_TIME_FACTOR, else 1.
    time_factor: ClassVar[float] = _time_factor()
    #: Variables with which the wall's own search leads elsewhere, such as {"DOCKER_HOST":
    #: "unix:///nowhere"}, for the check that a sandbox is looked for where it was made (C9).
    #: TMPDIR and XDG_RUNTIME_DIR lead elsewhere there anyway.
    elsewhere: ClassVar[Mapping[str, str]] = {}
    #: The providers that the target names, for a wall that is over another one: selecting it
    #: imports these, too (A3).
    over: ClassVar[Collection[str]] = ()
    #: Seconds that one check may take, widened by ``time_factor``.
    check_seconds: ClassVar[float] = 60.0

    #: Whether it is the whole suite: a report is written of that alone.
    whole: ClassVar[bool] = False

    # What the suite itself keeps of a class.
    _recorder: ClassVar[Recorder | None] = None
    _unavailable: ClassVar[str | None] = None
    _slow_failures: ClassVar[int] = 0
    _shared: ClassVar[Mapping[str, SharedSession]]
    _runtime: ClassVar[Runtime | None] = None
    # What it keeps of one check: a new object runs each.
    _refused: tuple[str, ...] = ()
    _unclaimed: bool = False
    _clause: str = ""
    #: How its sessions are made; another one where a check of isolation is run again (E12).
    circumstance: Circumstance = ALONE

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        repeat(cls)
        if not cls.provider and cls.make_provider is ConformanceBase.make_provider:
            return
        cls._shared = {kind.shares: SharedSession() for kind in (ALONE, *CIRCUMSTANCES)}
        cls._runtime, cls._recorder = None, None
        cls._unavailable, cls._slow_failures = None, 0
        for name, check in inspect.getmembers(cls, inspect.isfunction):
            if name.startswith("test_"):
                setattr(cls, name, guarded(cls, name, check))

    @classmethod
    def teardown_class(cls) -> None:
        """End the sessions that the checks shared; called by pytest after the last."""
        for shared in cls._shared.values():
            shared.close()

    # -- what authors may override ---------------------------------------------

    def make_provider(self, **config: Any) -> WallProvider:
        """The provider under test; ``config`` sets fields over the string's options.

        What the string leaves at its default and the wall does not claim is not asked
        for: that it is refused has checks of its own (B1, B3).
        """
        cls = type(self)
        if cls._runtime is None or cls._runtime.pid != os.getpid():
            cls._runtime = Runtime(discover_plugins=False)
        made = stockade.provider(self.provider, runtime=cls._runtime)
        made.config = relaxed(made.config, made.wall.capabilities).with_(**config)
        return made

    def kill_sandbox(self, session: Session) -> None:
        """Make the sandbox of a session die, as if by an accident (D14)."""
        pytest.skip("the wall's tests do not say how to kill its sandbox (kill_sandbox)")

    # -- sessions --------------------------------------------------------------

    def session(self, **config: Any) -> AbstractContextManager[Session]:
        """A session of the check's own, closed whatever happens."""
        return self.circumstance.session(self, config)

    @contextmanager
    def shared(self) -> Iterator[Session]:
        """A default session, the check's alone while it has it, others' before and after.

        For checks that leave no process behind and name their files with ``unique``.
        """
        kind = self.circumstance
        lease = type(self)._shared[kind.shares].lease(lambda: kind.open(self, {}))
        with lease as session, kind.around(self, session):
            yield session

    def open_session(self, **config: Any) -> Session:
        """A new session, as any caller has it; the caller closes it."""
        provider = self.make_provider(**config)
        record = provider.open_record("conformance", self.patient(provider.config))
        return Session(provider, record)

    def patient(self, config: SandboxConfig) -> SandboxConfig:
        """The configuration with its time limits widened for this machine."""
        return config.with_(
            startup_timeout_seconds=min(self.scaled(config.startup_timeout_seconds), 86_400.0),
            # Of every execution that asks for no other.
            timeout_seconds=min(self.scaled(config.timeout_seconds), 86_400.0),
        )

    # -- programs --------------------------------------------------------------

    def start(self, session: Session, program: Program, **options: Any) -> Execution:
        """Start a program in the first form that the wall has: shell, argv, code."""
        return session.start(**self._form(session, program), **options)

    def run(self, session: Session, program: Program, **options: Any) -> SandboxResult:
        return self.start(session, program, **options).result()

    def usable(self, session: Session, clause: str) -> None:
        """The session runs the next program, or the result says why not."""
        result = self.run(session, say("x"))
        expect(result.success, clause, "a usable session", result)

    def stream(self, session: Session, program: Program, **options: Any) -> Execution:
        return session.stream(**self._form(session, program), **options)

    def runs(self, session: Session) -> Execution:
        """An execution that has begun for sure, and goes on for long."""
        execution = self.stream(session, sleep(30, after="begun"), timeout=self.scaled(60))
        execution.take()
        return execution

    def _form(self, session: Session, program: Program) -> dict[str, Any]:
        have = session.provider.wall.capabilities
        if have[Feature.SHELL]:
            return {"shell": program.sh}
        if have[Feature.ARGV]:
            return {"argv": ["sh", "-c", program.sh]}
        if have[Feature.CODE]:
            languages = languages_of(session.provider.runtime.workers, session._record)
            for language, code in (("python", program.python), ("javascript", program.javascript)):
                if language in languages and code:
                    return {"code": code, "language": language}
        pytest.skip(f"the wall has no form in which to run the program {program.name!r}")

    # -- gates -----------------------------------------------------------------

    def claims(self, feature: Feature) -> bool:
        return bool(self.make_provider().wall.capabilities[feature])

    def need(self, *features: Feature) -> None:
        """Go on where the wall claims these; the refusals have checks of their own."""
        have = self.make_provider().wall.capabilities
        for feature in features:
            if not have[feature]:
                # A form that is missing leaves another clause unchecked, not unclaimed.
                self._unclaimed = feature not in _FORMS or self._clause == "D1"
                pytest.skip(f"{feature} is unsupported: {have[feature].note or 'not claimed'}")

    def need_a_wall(self) -> None:
        """Go on where the wall says that it is one: isolation ``none`` claims to hide nothing."""
        if self.make_provider().wall.isolation is Isolation.NONE:
            self._unclaimed = True
            pytest.skip("isolation is none: this wall hides nothing, and says so")

    def need_python(self, session: Session) -> None:
        """Go on where the sandbox has a Python."""
        have = session.provider.wall.capabilities
        if have[Feature.SHELL]:
            found = session.shell("command -v python3 || command -v python").success
        else:
            runtime = session.provider.runtime
            found = bool(have[Feature.CODE]) and "python" in languages_of(
                runtime.workers, session._record
            )
        if not found:
            pytest.skip("there is no Python in this sandbox")

    def refused(self, clause: str, call: Callable[[], object], feature: Feature) -> None:
        """What is unsupported must be refused, and named (never weaker than asked)."""
        try:
            call()
        except UnsupportedError as error:
            expect(str(feature) in str(error), clause, f"a refusal that names {feature}", error)
        else:
            expect(False, clause, f"UnsupportedError, since {feature} is unsupported", "no error")
        self._refused = (*self._refused, str(feature))

    # -- time ------------------------------------------------------------------

    def scaled(self, seconds: float) -> float:
        """A time limit or a wait, widened for this machine."""
        return seconds * self.time_factor

    def wait(self, seconds: float) -> None:
        time.sleep(self.scaled(seconds))

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Whether ``condition`` comes true in time."""
        deadline = time.monotonic() + self.scaled(seconds)
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def within(self, clause: str, seconds: float, began: float, what: str) -> None:
        took = time.monotonic() - began
        bound = self.scaled(seconds)
        expect(took <= bound, clause, f"{what} within {bound:g} s", f"{took:.1f} s")

    # -- what several groups look at ---------------------------------------------

    def one_kernel(self, session: Session) -> bool:
        """Whether one kernel in user space holds program and session together (E5)."""
        return session.provider.wall.isolation is Isolation.KERNEL

    def stops_growing(self, session: Session, path: str) -> bool:
        """Whether a heartbeat that a process appends to a file has ended."""
        first = session.shell(f"wc -c < {path}").stdout
        self.wait(0.6)
        return session.shell(f"wc -c < {path}").stdout == first
