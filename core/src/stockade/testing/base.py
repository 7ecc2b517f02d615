"""How a check runs: its limit, its skip, its declared deviation, its report."""

from __future__ import annotations

import difflib
import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, TypeVar

import attrs

from stockade.capabilities import Feature, Level
from stockade.providers import WallProvider
from stockade.providers import provider as select
from stockade.runtime import Runtime
from stockade.session import Session
from stockade.spec import ProviderString
from stockade.testing import host
from stockade.testing.bench import Bench
from stockade.testing.expect import ClauseError, NotMeasured
from stockade.testing.refuse import refusal
from stockade.testing.stage import Stage, stage_of

__all__ = ["CheckInfo", "Conformance", "Outcome", "check"]

_C = TypeVar("_C", bound="Conformance")
#: How long tidying up after a check may take.
_TIDY_SECONDS = 45.0


@attrs.frozen(kw_only=True)
class CheckInfo:
    """One check: what it is called, and which clause of the contract it is about."""

    name: str  #: ``D6_timeout_ends_daemons``
    clause: str  #: ``D6``
    summary: str  #: the first line of its docstring
    feature: Feature | None  #: what it belongs to, where a wall may lack it
    seconds: float  #: its time limit, before the author's factor

    @property
    def group(self) -> str:
        return self.clause[0]


@attrs.frozen(kw_only=True)
class Outcome:
    """How a check ended."""

    info: CheckInfo
    #: "passed", "refused" (unsupported, and refused as it must be), "skipped",
    #: "deviates" (as declared), "failed"
    status: str
    detail: str = ""
    seconds: float = 0.0
    level: Level | None = None  #: what the wall claims of the check's feature
    error: BaseException | None = attrs.field(default=None, repr=False)


def check(
    *, feature: Feature | None = None, seconds: float = 60.0
) -> Callable[[Callable[[_C, Bench], None]], Callable[[_C], None]]:
    """Make a method into a check; its name holds the clause, as in ``test_D6_…``.

    With ``feature`` the method runs where the wall claims it; where it does
    not, the check is that asking for it is refused.
    """

    def mark(body: Callable[[_C, Bench], None]) -> Callable[[_C], None]:
        name = body.__name__.removeprefix("test_")
        info = CheckInfo(
            name=name,
            clause=name.partition("_")[0],
            summary=(body.__doc__ or "").strip().partition("\n")[0],
            feature=feature,
            seconds=seconds,
        )

        def test(self: _C) -> None:
            __tracebackhide__ = True
            _tell_pytest(self.outcome(info, functools.partial(body, self)))

        # No functools.wraps: pytest would take the body's `bench` for a fixture.
        test.__name__ = body.__name__
        test.__qualname__ = body.__qualname__
        test.__doc__ = body.__doc__
        test.__module__ = body.__module__
        test.info = info  # type: ignore[attr-defined]
        test.body = body  # type: ignore[attr-defined]
        return test

    return mark


def _tell_pytest(outcome: Outcome) -> None:
    """Say it in pytest's words; a deviation is its xfail, with the reason."""
    __tracebackhide__ = True
    if outcome.status in ("passed", "refused"):
        return
    if outcome.error is not None and outcome.status == "failed":
        raise outcome.error
    import pytest

    if outcome.status == "skipped":
        pytest.skip(outcome.detail)
    pytest.xfail(outcome.detail)


class Conformance:
    """The part of :class:`ProviderConformance` that is not a check."""

    #: The provider string of the wall under test, as a user would write it.
    provider: ClassVar[str] = ""
    #: Checks that the wall is known to fail, by name without ``test_``, with the
    #: reason. Each is run and shown; one that stops deviating fails.
    deviations: ClassVar[Mapping[str, str]] = {}
    #: Widens every time bound: for emulated machines.
    time_factor: ClassVar[float] = 1.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, reason in cls.deviations.items():
            if not hasattr(getattr(cls, f"test_{name}", None), "info"):
                known = [found[5:] for found in dir(cls) if found.startswith("test_")]
                close = difflib.get_close_matches(name, known, 1, 0.3)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise TypeError(f"{cls.__name__}.deviations names no check {name!r}{hint}")
            if not isinstance(reason, str) or not reason.strip():
                raise TypeError(f"{cls.__name__}.deviations[{name!r}] needs a reason.")

    # -- what an author may override -------------------------------------------

    def make_provider(self) -> WallProvider:
        """The provider under test; the default finds the one that ``provider`` names.

        Called once a class and process. Its runtime loads no policies and
        observers, so that those of the machine do not judge the checks.
        """
        if not self.provider:
            raise TypeError(f"{type(self).__name__} names no wall: set provider = 'name:target'.")
        return select(self.provider, runtime=Runtime(discover_plugins=False))

    def kill_sandbox(self, session: Session) -> None:
        """Kill the whole sandbox of ``session`` from outside, as an accident would (D14).

        Not overridden, the check of D14 is skipped.
        """
        raise NotMeasured("override kill_sandbox(session) so that the suite can kill a sandbox")

    def leftovers(self, session_id: str) -> Collection[str]:
        """What the host still has of a session that ended (C5, C6), in words.

        The default looks for the session's id among the host's processes and in
        its temporary folder; override it to ask an engine, too.
        """
        return host.traces_of(session_id)

    # -- running -----------------------------------------------------------------

    def outcome(self, info: CheckInfo, body: Callable[[Bench], None]) -> Outcome:
        """Run one check to its end, its time limit at most, and tidy up."""
        began = time.monotonic()
        stage = self._stage()
        bench = Bench(self, info.clause, stage)
        error = self._limited(info, lambda: self._measure(info, body, bench))
        tidy = _in_thread(bench.close, _TIDY_SECONDS * self.time_factor)
        if error is None and tidy is not None:
            error = _untidy(tidy)
        return self._judge(info, stage, error, time.monotonic() - began)

    def _stage(self) -> Stage:
        # An author's make_provider needs no string; then the class's name stands for it.
        known = ProviderString.parse(self.provider).names[0] if self.provider else ""
        return stage_of(type(self), known or type(self).__name__, self.make_provider)

    def _measure(self, info: CheckInfo, body: Callable[[Bench], None], bench: Bench) -> None:
        provider = bench.provider
        if info.feature is not None and not provider.wall.capabilities[info.feature]:
            refusal(bench, info.feature)
        else:
            body(bench)

    def _limited(self, info: CheckInfo, work: Callable[[], None]) -> BaseException | None:
        # A thread, since a signal would need the main one, which xdist may not give us.
        seconds = info.seconds * self.time_factor
        error = _in_thread(work, seconds)
        if isinstance(error, _TooLong):
            return ClauseError(info.clause, f"the check ends within {seconds:g} s",
                               "it hung here:\n" + error.where,
                               "the wall's method, or the call of core, named last")  # fmt: skip
        return error

    def _judge(
        self, info: CheckInfo, stage: Stage, error: BaseException | None, seconds: float
    ) -> Outcome:
        level = None
        if info.feature is not None and stage.made is not None:
            level = stage.made.wall.capabilities[info.feature].level
        end = functools.partial(Outcome, info=info, seconds=seconds, level=level, error=error)
        reason = self.deviations.get(info.name)
        if isinstance(error, NotMeasured):
            return end(status="skipped", detail=f"{info.name}: {error}")
        if error is not None and reason is None:
            return end(status="failed", detail=str(error))
        if error is not None:
            return end(status="deviates", detail=f"{info.name} deviates: {reason}\n{error}")
        if reason is not None:
            stale = ClauseError(
                info.clause,
                f"{info.name} deviates, as declared ({reason})",
                "it passes",
                f"{type(self).__name__}.deviations: take the entry out",
            )
            return end(status="failed", detail=str(stale), error=stale)
        return end(status="refused" if level is Level.UNSUPPORTED else "passed")


class _TooLong(Exception):
    def __init__(self, where: str) -> None:
        self.where = where


def _in_thread(work: Callable[[], None], seconds: float) -> BaseException | None:
    """What ``work`` raised, or None; _TooLong, with its stack, when it does not end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="stockade-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if not thread.is_alive():
        return raised[0] if raised else None
    frame = sys._current_frames().get(thread.ident or 0)
    # The innermost frames tell where; the outer ones are this file's.
    lines = traceback.format_stack(frame)[-4:] if frame is not None else []
    return _TooLong("".join(lines).replace(os.getcwd(), "."))


def _untidy(error: BaseException) -> ClauseError:
    seen = f"{type(error).__name__}: {error}"
    if isinstance(error, _TooLong):
        seen = "it hung here:\n" + error.where
    return ClauseError("C6", "the check's sessions close", seen, "Sandbox.close")
