"""What all checks share: sessions, time limits, deviations, and how a failure reads."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

import stockade
from stockade.capabilities import Feature, Isolation
from stockade.errors import StockadeError, UnsupportedError
from stockade.providers import WallProvider
from stockade.runtime import Runtime
from stockade.session import Session

__all__ = ["ConformanceBase", "expect"]

#: Seconds that one check may take, widened by ``time_factor``.
CHECK_SECONDS = 60.0


def expect(condition: object, clause: str, expected: str, seen: object, look: str = "") -> None:
    """Fail with the clause, what was expected, what was seen, and where to look."""
    if not condition:
        where = f"\n  look at:  {look}" if look else ""
        pytest.fail(f"{clause}\n  expected: {expected}\n  seen:     {seen!r:.600}{where}", False)


class ConformanceBase:
    """Set ``provider``, and nothing else unless the wall deviates."""

    #: The provider string of the wall to check.
    provider: ClassVar[str] = ""
    #: Check's name (``D13_...`` or ``test_D13_...``) to the reason why it does not hold.
    #: A deviation is run, and fails when it stops deviating.
    deviations: ClassVar[Mapping[str, str]] = {}
    #: Widens every time bound, for machines that are emulated.
    time_factor: ClassVar[float] = 1.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.provider and cls.make_provider is ConformanceBase.make_provider:
            return
        for name, check in inspect.getmembers(cls, inspect.isfunction):
            if name.startswith("test_"):
                setattr(cls, name, _guarded(cls, name, check))

    # -- what authors may override ---------------------------------------------

    def make_provider(self, **config: Any) -> WallProvider:
        """The provider under test, in a runtime of the check's own."""
        return stockade.provider(self.provider, runtime=Runtime(discover_plugins=False), **config)

    def kill_sandbox(self, session: Session) -> None:
        """Make the sandbox of a session die, as if by an accident (D14)."""
        pytest.skip("the wall's tests do not say how to kill its sandbox (kill_sandbox)")

    # -- what checks use -----------------------------------------------------

    @contextmanager
    def session(self, **config: Any) -> Iterator[Session]:
        """A session that is closed whatever happens."""
        provider = self.make_provider(**config)
        with Session(provider, provider.open_record("conformance")) as opened:
            yield opened

    def need(self, *features: Feature) -> None:
        """Go on where the wall claims these; the refusals have checks of their own."""
        have = self.make_provider().wall.capabilities
        for feature in features:
            if not have[feature]:
                pytest.skip(f"{feature} is unsupported: {have[feature].note or 'not claimed'}")

    def need_isolation(self) -> None:
        """Go on where something stands between the code and the host: never let a check
        that attacks loose on the machine itself."""
        if self.make_provider().wall.isolation is Isolation.NONE:
            pytest.skip("the wall isolates nothing, and says so (isolation: none)")

    def need_python(self, session: Session) -> None:
        if not session.shell("command -v python3 || command -v python").success:
            pytest.skip("there is no Python in this sandbox")

    def refused(self, clause: str, call: Callable[[], object], feature: Feature) -> None:
        """What is unsupported must be refused by name (never weaker than asked)."""
        try:
            call()
        except UnsupportedError as error:
            expect(str(feature) in str(error), clause, f"a refusal that names {feature}", error)
        else:
            expect(False, clause, f"UnsupportedError, since {feature} is unsupported", "no error")

    def within(self, clause: str, seconds: float, began: float, what: str) -> None:
        took = time.monotonic() - began
        expect(took <= seconds * self.time_factor, clause, f"{what} within {seconds} s", took)

    def one_kernel(self, session: Session) -> bool:
        """Whether one kernel in user space holds program and session together (E5)."""
        return session.provider.wall.isolation is Isolation.KERNEL

    def stops_growing(self, session: Session, path: str) -> bool:
        """Whether a heartbeat that a process appends to a file has ended."""
        first = session.shell(f"wc -c < {path}").stdout
        time.sleep(0.6)
        return session.shell(f"wc -c < {path}").stdout == first


def _guarded(cls: type[ConformanceBase], name: str, check: Callable[..., None]) -> Any:
    """The check with its time limit, the wall's availability, and its deviation."""

    @functools.wraps(check)
    def run(self: ConformanceBase) -> None:
        _available(self)
        reason = cls.deviations.get(name) or cls.deviations.get(name.removeprefix("test_"))
        outcome = _in_time(lambda: check(self), CHECK_SECONDS * cls.time_factor, name)
        if reason is None:
            if outcome is not None:
                raise outcome
        elif outcome is None:
            pytest.fail(f"{name} deviates no more ({reason}): remove it from deviations", False)
        elif isinstance(outcome, pytest.skip.Exception):
            raise outcome
        else:
            pytest.xfail(f"declared deviation: {reason}")

    return run


def _in_time(call: Callable[[], None], seconds: float, name: str) -> BaseException | None:
    """What the check raised, if anything; a wall that hangs fails its check, not the run."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return TimeoutError(f"{name} did not end within {seconds:g} s: the wall hangs")
    return raised[0] if raised else None


_seen: dict[str, str] = {}


def _available(suite: ConformanceBase) -> None:
    """Skip with the provider's own reason, or fail where CI promises the wall."""
    key = f"{type(suite).__name__} {suite.provider}"
    if key not in _seen:
        try:
            answer = suite.make_provider().availability()
            _seen[key] = "" if answer else answer.reason
        except StockadeError as error:
            _seen[key] = str(error)
    reason = _seen[key]
    if not reason:
        return
    name = suite.provider.partition(":")[0].partition("?")[0]
    if name in os.environ.get("STOCKADE_REQUIRE", "").split(","):
        pytest.fail(f"{name} is required here and not available: {reason}", False)
    pytest.skip(f"{name}: {reason}")
