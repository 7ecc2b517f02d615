"""Starting a sandbox: bounded in time, repeated where nothing began, never forgotten."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from stockade.errors import (
    ProviderUnavailableError,
    SandboxStartError,
    StockadeError,
    WallError,
)
from stockade.sessions._registry import SessionRecord
from stockade.sessions._settings import Settings
from stockade.system.retries import pauses
from stockade.system.threads import Workers, bounded, outcome
from stockade.values.shown import named
from stockade.wall import OpenRequest, Place, Sandbox, Wall

__all__ = ["Openings"]

_log = logging.getLogger(__name__)
#: A logger of its own, so that a program can silence (or watch for) just this.
_isolation_log = logging.getLogger("stockade.isolation")

#: How soon the end of the process is noticed by what waits for a long preparation.
_LOOK_SECONDS = 0.2
#: How long a wall may take to say where it makes sandboxes, and how much it may say.
_PLACE_SECONDS = 15.0
_LONGEST_WORD = 2000


class Openings:
    """The openings of one runtime, and what must still be removed after those that failed."""

    def __init__(self, workers: Workers, settings: Callable[[], Settings]) -> None:
        self._workers = workers
        self._settings = settings
        self._changed = threading.Condition()
        self._underway = 0
        self._stopped = threading.Event()

    def place(self, wall: Wall, record: SessionRecord) -> Place:
        """Where the wall will make the record's sandbox. Raises SandboxStartError, WallError
        and what the wall raises of stockade's own."""
        try:
            found: object = bounded(self._workers, wall.place, _PLACE_SECONDS)
        except StockadeError:
            raise
        except Exception as error:
            raise _unforeseen(record, error) from error
        if not isinstance(found, Place) or len(found.word) > _LONGEST_WORD:
            raise WallError(
                f"place() of {record.provider} returned {found!r:.200}, not a Place with a word of "
                f"at most {_LONGEST_WORD} characters; report it to its author."
            )
        return found

    def start(self, wall: Wall, record: SessionRecord, request: OpenRequest) -> None:
        """Start the record's sandbox. Raises SandboxStartError, WallError and what
        the wall raises of stockade's own; then nothing is left, or soon will be (C5)."""
        seconds = record.config.startup_timeout_seconds
        until, prepared = time.monotonic() + seconds, False
        waits = pauses(self._settings().start_retries)
        while True:
            try:
                if not prepared:
                    self._prepare(wall, record, request)
                    until, prepared = time.monotonic() + seconds, True
                record.sandbox = self._once(wall, record, request, until)
                _warn(wall, record)
                return
            except (SandboxStartError, ProviderUnavailableError) as error:
                pause = next(waits, None) if _nothing_began(error) else None
                if pause is None or time.monotonic() + pause >= until:
                    raise
                _log.info("%s starts a sandbox again: %s", record.provider, error)
                if self._stopped.wait(pause):
                    raise

    def _prepare(self, wall: Wall, record: SessionRecord, request: OpenRequest) -> None:
        """What sandboxes share is fetched; most walls have nothing to fetch."""
        if type(wall).prepare is Wall.prepare:
            return
        try:
            seconds = max(record.config.startup_timeout_seconds, wall.prepare_seconds)
            until = time.monotonic() + seconds
            work = self._workers.submit(lambda: wall.prepare(request))
            while not futures.wait([work], min(_LOOK_SECONDS, seconds)).done:
                if self._stopped.is_set():  # nothing of a sandbox is there yet to wait for
                    raise SandboxStartError("the process ends while a sandbox was prepared.")
                if time.monotonic() >= until:  # nor to remove, should it come back later
                    raise SandboxStartError(
                        f"{record.provider} had not prepared what sandboxes share within "
                        f"{seconds:g} s; raise startup_timeout_seconds, or see "
                        f"`stockade doctor -p {record.provider}`."
                    )
            outcome(work)
        except StockadeError:
            raise
        except Exception as error:
            raise _unforeseen(record, error) from error

    def _once(
        self, wall: Wall, record: SessionRecord, request: OpenRequest, until: float
    ) -> Sandbox:
        self._enter()

        def work() -> Any:
            try:
                return wall.open(request)
            except BaseException:
                self._leave()
                raise

        def late(sandbox: Any) -> None:
            _close_quietly(sandbox)
            self._leave()

        seconds = until - time.monotonic()
        try:
            sandbox = bounded(self._workers, work, seconds, late=late)
        except StockadeError:
            raise
        except TimeoutError as error:
            raise SandboxStartError(
                f"{record.provider} did not start a sandbox within "
                f"{record.config.startup_timeout_seconds:g} s; "
                "raise startup_timeout_seconds, or see `stockade doctor`."
            ) from error
        except Exception as error:
            raise _unforeseen(record, error) from error
        self._leave()
        if not isinstance(sandbox, Sandbox):
            raise WallError(
                f"open() of {record.provider} returned {sandbox!r}, not a Sandbox; "
                "report it to its author."
            )
        return sandbox

    def discard(self, sandbox: Sandbox) -> Future[None]:
        """Remove a sandbox that nobody will use, in a thread of its own."""
        self._enter()

        def work() -> None:
            try:
                sandbox.close()
            except Exception:
                _log.exception("removing an unused sandbox failed")
                raise
            finally:
                self._leave()

        return self._workers.submit(work, anyhow=True)

    # -- what is under way -------------------------------------------------------

    @contextmanager
    def underway(self) -> Iterator[None]:
        """Inside of it something is made or removed that ``wait`` waits for."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is being opened or removed; False when ``seconds`` pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._underway == 0, max(0.0, seconds))

    def stop_repeating(self) -> None:
        """The runtime ends for good: what failed is not tried again."""
        self._stopped.set()

    def _enter(self) -> None:
        with self._changed:
            self._underway += 1

    def _leave(self) -> None:
        with self._changed:
            self._underway -= 1
            self._changed.notify_all()


def _warn(wall: Wall, record: SessionRecord) -> None:
    try:
        words = wall.warning(record.config)
    except Exception:
        _log.exception("%s could not say what to warn of", record.provider)
        return
    if words:
        _isolation_log.warning("session %s of %s: %s", record.session_id, record.provider, words)


def _unforeseen(record: SessionRecord, error: Exception) -> SandboxStartError:
    return SandboxStartError(
        f"{record.provider} failed to start a sandbox: {named(error)}; "
        f"see `stockade doctor -p {record.provider}`."
    )


def _nothing_began(error: SandboxStartError | ProviderUnavailableError) -> bool:
    """Whether it is safe to repeat, and of any use."""
    if isinstance(error, SandboxStartError):
        return error.retryable and error.nothing_began
    return error.retryable


def _close_quietly(sandbox: Any) -> None:
    try:
        sandbox.close()
    except Exception:
        _log.exception("removing an unused sandbox failed")
