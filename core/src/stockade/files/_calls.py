"""Every file call has its time, can be cancelled, and ends with its session (F2, C7).

The backend works in one of core's threads; the caller waits for it, but no longer than the
call's time, whatever the backend does.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from stockade.errors import ConfigError, SandboxLostError
from stockade.file_backend import FileCall

if TYPE_CHECKING:
    from stockade.config import SandboxConfig
    from stockade.system.threads import Workers

__all__ = ["FileCalls", "FileHome", "Scope", "Timeout", "cancellable"]

_T = TypeVar("_T")

#: Seconds, None for no limit, or "session" for the session's ``timeout_seconds`` (D15).
Timeout = float | Literal["session"] | None

#: How long a backend may take to end a call that is over: its caller waits for that, since it
#: might still write what the next call reads. A backend that takes longer is not waited for.
_GRACE_SECONDS = 0.5


class Scope:
    """The file calls that are made inside of one thing that may be cancelled, such as an await."""

    def __init__(self) -> None:
        self._call: FileCall | None = None
        self._cancelled = False

    def adopt(self, call: FileCall) -> None:
        """From now on ``cancel`` means this call."""
        self._call = call
        if self._cancelled:
            call.cancel()

    def cancel(self) -> None:
        """End the call that is made now, and every one that is made later."""
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("_scope", default=None)


@contextmanager
def cancellable(scope: Scope) -> Iterator[None]:
    """File calls of this thread end when ``scope`` is cancelled."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


class FileHome(Protocol):
    """A session, as calls on its files see it."""

    provider: str  #: the entry-point name
    config: SandboxConfig

    def enter(self, call: FileCall) -> None:
        """Count a call; raises SessionStateError unless it can be served now."""

    def leave(self, call: FileCall) -> None:
        """Count it no more."""

    def fail(self, reason: str) -> None:
        """Mark the session failed."""


class FileCalls:
    """Makes the file calls of one session."""

    def __init__(self, workers: Workers, home: FileHome) -> None:
        self.home = home
        self._workers = workers

    def make(self, what: str, timeout: Timeout, work: Callable[[FileCall], _T]) -> _T:
        """Do ``work`` for a caller, within its time; ``what`` it is, for the error.

        Raises what ``work`` raises, TimeoutError, CancelledError if it was cancelled or the
        session is ended, SessionStateError if the session can do nothing now, ConfigError.
        """
        seconds = _seconds(timeout, self.home.config.timeout_seconds)
        call = FileCall(seconds)
        outcome: Future[_T] = Future()
        late = f"{what} took longer than {seconds} s; pass a longer timeout, or None for no limit."

        ended = threading.Event()

        def drive() -> None:
            try:
                result = work(call)
            except TimeoutError as error:
                renamed = TimeoutError(late)
                renamed.__cause__ = error
                _fail(outcome, renamed)
            except BaseException as error:  # whatever a backend raises is the caller's
                _fail(outcome, error)
                if isinstance(error, SandboxLostError):
                    self.home.fail(str(error))
            else:
                with _settled():
                    outcome.set_result(result)
            finally:
                ended.set()

        self.home.enter(call)
        try:
            call.on_cancel(lambda: _fail(outcome, call.error))
            if (scope := _scope.get()) is not None:
                scope.adopt(call)
            self._workers.run(drive)
            try:
                return outcome.result(None if seconds is None else seconds + _GRACE_SECONDS)
            except FutureTimeout:
                if outcome.done():
                    raise
                raise TimeoutError(late) from None
        finally:
            if not outcome.done() or outcome.exception() is not None:
                call.cancel()
                ended.wait(_GRACE_SECONDS)
            self.home.leave(call)

    def begin(self, timeout: Timeout, work: Callable[[FileCall], None]) -> None:
        """Do ``work``, which raises nothing, beside the caller. Raises SessionStateError where
        the session can do nothing now, ConfigError, CapacityError."""
        call = FileCall(_seconds(timeout, self.home.config.timeout_seconds))
        if (scope := _scope.get()) is not None:
            scope.adopt(call)

        def drive() -> None:
            try:
                work(call)
            finally:
                self.home.leave(call)

        self.home.enter(call)
        try:
            self._workers.run(drive)
        except BaseException:
            self.home.leave(call)
            raise


@contextmanager
def _settled() -> Iterator[None]:
    """The first outcome stands."""
    try:
        yield
    except InvalidStateError:
        return


def _fail(outcome: Future[_T], error: BaseException) -> None:
    with _settled():
        outcome.set_exception(error)


def _seconds(timeout: object, usual: float) -> float | None:
    if timeout == "session":
        return usual
    if timeout is None:
        return None
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 < timeout < math.inf:  # type: ignore[operator]
        raise ConfigError(
            f"timeout={timeout!r:.80} is not allowed: give seconds above 0, None for no limit, or "
            "leave it out for the session's."
        )
    return float(timeout)  # type: ignore[arg-type]
