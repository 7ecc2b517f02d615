"""What stands around every check: availability, a time limit, deviations, the record."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from stockade.testing.circumstances import original_of
from stockade.testing.clauses import clause_of
from stockade.testing.machine.left import leave
from stockade.testing.report.data import CheckResult, describe
from stockade.testing.report.recorder import REPORTS_VARIABLE, Recorder, file_recorder
from stockade.values.shown import named

if TYPE_CHECKING:
    from stockade.testing.interface import Suite

__all__ = ["anywhere", "guarded", "recorder_of"]

#: So many failures that took half a check's time and more: then the wall hangs, and
#: what is left is failed without being run, so that the whole run ends in bounded time.
SLOW_FAILURES = 5

_UNCHECKED = "_stockade_check"


def anywhere(check: Callable[..., None]) -> Callable[..., None]:
    """Mark a check that does not need the wall to be available."""
    check._stockade_anywhere = True  # type: ignore[attr-defined]
    return check


def guarded(cls: type[Suite], name: str, check: Callable[..., None]) -> Any:
    """The check as pytest and the command run it."""
    check = getattr(check, _UNCHECKED, check)  # of a base class: guarded once is enough

    @functools.wraps(check)
    def run(self: Suite, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        began = time.monotonic()
        raised: BaseException | None = None
        try:
            _run(self, name, functools.partial(check, self, *args, **kwargs), check)
        except BaseException as error:
            raised = error
        seconds = time.monotonic() - began
        if isinstance(raised, (Exception, pytest.fail.Exception)) and _slow(cls, seconds):
            cls._slow_failures += 1
        _record(self, name, raised, seconds)
        if raised is not None:
            raise raised

    setattr(run, _UNCHECKED, check)
    return run


def _slow(cls: type[Suite], seconds: float) -> bool:
    return seconds >= cls.check_seconds * cls.time_factor / 2


def _run(suite: Suite, name: str, call: Callable[[], None], check: Callable[..., None]) -> None:
    __tracebackhide__ = True
    cls = type(suite)
    clause = suite._clause = clause_of(name)
    if not getattr(check, "_stockade_anywhere", False):
        _require_available(suite)
    if cls._slow_failures >= SLOW_FAILURES:
        pytest.fail(
            f"{clause}\n  expected: checks that end\n  seen:     not run: {cls._slow_failures} "
            f"checks before it took half their time limit and more\n  look at:  the first of them",
            False,
        )
    reason = _deviation(suite, name)
    # What a check deviates in alone it may deviate in elsewhere, and need not.
    inherited = "" if reason is not None else _deviation(suite, original_of(check)) or ""
    inherited = inherited or _stated(type(suite).unsteady, name) or ""
    raised = in_time(call, cls.check_seconds * cls.time_factor, f"{clause}: {name}")
    if inherited and isinstance(raised, (Exception, pytest.fail.Exception)):
        pytest.xfail(f"declared deviation: {inherited}")
    if reason is None:
        if raised is not None:
            raise _as_failure(clause, raised, suite, original_of(check))
    elif raised is None:
        pytest.fail(f"{name} deviates no more ({reason}): remove it from deviations", False)
    elif isinstance(raised, pytest.skip.Exception):
        raise raised
    else:
        pytest.xfail(f"declared deviation: {reason}")


def _deviation(suite: Suite, name: str) -> str | None:
    """Why a check does not hold, where its class says so."""
    return _stated(type(suite).deviations, name)


def _stated(reasons: Mapping[str, str], name: str) -> str | None:
    return reasons.get(name) or reasons.get(name.removeprefix("test_"))


def _as_failure(clause: str, raised: BaseException, suite: Suite, original: str) -> BaseException:
    """A failure names its clause; what a wall or core raised unasked does too, and shows where
    it came from: that is the author's own line, more often than not."""
    if isinstance(raised, pytest.fail.Exception):
        first, _, rest = str(raised).partition("\n")
        if original and first == clause_of(original):
            words = f"{clause}\n  what:     {first} {suite.circumstance.words}\n{rest}"
            return pytest.fail.Exception(words, pytrace=False)
        if first == clause:
            return raised
        expected, seen = "the error that the contract asks for", str(raised)  # of pytest.raises
    elif isinstance(raised, Exception):
        expected, seen = "no error", named(raised)
    else:
        return raised
    frames = traceback.extract_tb(raised.__traceback__)
    checks = [frame for frame in frames if frame.name.startswith("test_")]
    place = next(reversed(checks or list(frames)), None)
    where = f"{place.filename}:{place.lineno}: {place.line}" if place else "the traceback above"
    failure = pytest.fail.Exception(
        f"{clause}\n  expected: {expected}\n  seen:     {seen}\n  look at:  {where}",
        pytrace=not isinstance(raised, pytest.fail.Exception),
    )
    failure.__cause__ = raised
    return failure


def in_time(call: Callable[[], object], seconds: float, name: str) -> BaseException | None:
    """What ``call`` raised, if anything; one that hangs fails its check, not the run.

    It runs in a daemon, which is left behind where it does not end.
    """
    raised: list[BaseException] = []

    def work() -> None:
        __tracebackhide__ = True
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        leave(thread)
        frame = sys._current_frames().get(thread.ident or 0)
        stack = traceback.extract_stack(frame) if frame else []
        at = next((f for f in reversed(stack) if f.name.startswith("test_")), None)
        place = f", at {at.filename}:{at.lineno}: {at.line}" if at else ""
        return TimeoutError(f"{name} did not end within {seconds:g} s: the wall hangs{place}")
    return raised[0] if raised else None


# -- availability ----------------------------------------------------------------


def _require_available(suite: Suite) -> None:
    """Skip with the provider's own reason, or fail where CI promises the wall."""
    reason = _unavailable(suite)
    if not reason:
        return
    name = _wall_of(suite)
    if _required(name):
        pytest.fail(f"{name} is required here and not available: {reason}", False)
    pytest.skip(f"{name}: {reason}")


def _wall_of(suite: Suite) -> str:
    return suite.provider.partition("?")[0].partition(":")[0] or "the wall"


def _required(name: str) -> bool:
    return name in os.environ.get("STOCKADE_REQUIRE", "").split(",")


def _unavailable(suite: Suite) -> str:
    """Why the wall cannot be checked, asked once a class; empty if it can."""
    cls = type(suite)
    if cls._unavailable is None:
        cls._unavailable = _why_not(suite)
    return cls._unavailable


def _why_not(suite: Suite) -> str:
    answers: list[str] = []

    def ask() -> None:
        answer = suite.make_provider().availability()
        answers.append("" if answer else answer.reason or "its probe gives no reason")

    cls = type(suite)
    raised = in_time(ask, cls.check_seconds * cls.time_factor, "availability")
    if raised is not None:
        return named(raised)
    return answers[0]


# -- the record ------------------------------------------------------------------


def recorder_of(suite: Suite) -> Recorder | None:
    """Where this class's results go; None if nobody asked for them, or there is nothing to
    report: a part of the suite, or a wall that is not here."""
    cls = type(suite)
    if cls._recorder is None and _reports(suite):
        provider = None
        with contextlib.suppress(Exception):
            provider = suite.make_provider()
        report = describe(
            provider,
            suite.provider,
            title=cls.title or ("" if suite.provider else cls.__name__),
            time_factor=cls.time_factor,
        )
        cls._recorder = file_recorder(report)
    return cls._recorder


def _reports(suite: Suite) -> bool:
    cls = type(suite)
    return (
        bool(os.environ.get(REPORTS_VARIABLE))
        and f"::{cls.__name__}::" in os.environ.get("PYTEST_CURRENT_TEST", "")
        and cls.whole
        and (_required(_wall_of(suite)) or not _unavailable(suite))
    )


def _record(suite: Suite, name: str, raised: BaseException | None, seconds: float) -> None:
    recorder = recorder_of(suite)
    if recorder is None:
        return
    message = "" if raised is None else str(raised)
    if raised is None and suite._refused:
        message = f"refused, as it must be: {', '.join(suite._refused)}"
    recorder.add(
        CheckResult(
            name=name.removeprefix("test_"),
            clause=clause_of(name),
            outcome=_outcome(suite, raised),
            seconds=round(seconds, 3),
            message=message[:2000],
            traceback=_traceback(raised),
        )
    )


def _traceback(raised: BaseException | None) -> str:
    """Where a failure came from, if something was raised and not just found."""
    cause = None if raised is None else raised.__cause__
    if cause is None or isinstance(cause, pytest.fail.Exception):
        return ""
    return "".join(traceback.format_exception(cause))


def _outcome(suite: Suite, raised: BaseException | None) -> str:
    if raised is None:
        return "refused" if suite._refused else "passed"
    if isinstance(raised, pytest.xfail.Exception):
        return "deviated"
    if isinstance(raised, pytest.skip.Exception):
        return "unsupported" if suite._unclaimed else "skipped"
    return "failed"
