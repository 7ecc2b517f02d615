"""Changes below a folder, as they happen (F6): ``session.files.watch``."""

from __future__ import annotations

import posixpath
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from stockade._entries import FileEvent, FileInfo
from stockade.errors import FileTooLargeError

if TYPE_CHECKING:
    from types import TracebackType

    from stockade.file_backend import FileBackend, FileCall

__all__ = ["MOST_WAITING", "Watch", "look_for_changes"]

#: So many events wait for a reader that is slow; what comes then is dropped and marked.
MOST_WAITING = 4096
#: How often a folder is looked at where nobody reports what happens there.
_LOOK_SECONDS = 0.5
#: A larger tree is not looked at.
_MOST_ENTRIES = 100_000

_Seen = dict[str, FileInfo]


class Watch:
    """What changes below a folder; made by ``session.files.watch``.

    Iterating waits for the next :class:`FileEvent`, until the folder itself is gone or ``close``
    was called. Raises TimeoutError when its time limit has passed, CancelledError when the
    session is ended, SandboxLostError. Safe from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: deque[FileEvent] = deque()
        self._begun = False
        self._over = False
        self._error: BaseException | None = None
        self._call: FileCall | None = None
        self._listener: Callable[[], None] | None = None
        self._top = ""

    # -- what callers use ----------------------------------------------------

    def take(self, timeout: float | None = None) -> FileEvent | None:
        """The next event, waiting for it; None at the end, or when ``timeout`` seconds have
        passed first. Raises as iterating does."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._over, timeout)
            return self._next()

    def poll(self) -> tuple[FileEvent | None, bool]:
        """The next event where there is one, without waiting, and whether no more comes."""
        with self._changed:
            event = self._next()
            return event, event is None and self._over

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have a function called, under a lock, whenever there may be more: it must only wake
        somebody. None ends that."""
        with self._changed:
            self._listener = listener

    def close(self) -> None:
        """Watch no more; may be called again. What has come can still be read."""
        with self._changed:
            self._end(None)
            call = self._call
        if call is not None:
            call.cancel()

    def __iter__(self) -> Iterator[FileEvent]:
        while (event := self.take()) is not None:
            yield event

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> FileEvent | None:
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None

    # -- what core uses ------------------------------------------------------

    def run(self, top: str, call: FileCall, work: Callable[[FileCall], None]) -> None:
        """Watch, in one of core's threads, to the end; never raises."""
        self._top = top
        with self._changed:
            self._call = call
            if self._over:
                return
        error: BaseException | None = None
        call.on_cancel(lambda: self.end(call.error))
        try:
            work(call)
        except BaseException as found:  # whatever a backend raises is the reader's
            error = found
        self.end(error)

    def ready(self) -> None:
        """From now on nothing is missed."""
        with self._changed:
            self._begun = True
            self._wake()

    def receive(self, event: FileEvent) -> None:
        """One more; where too many wait, the last of them says that some were dropped."""
        with self._changed:
            if self._over:
                return
            if len(self._events) < MOST_WAITING:
                self._events.append(event)
            elif self._events[-1].kind != "missed":
                self._events.append(FileEvent("missed", self._top, is_dir=True))
            self._wake()

    def end(self, error: BaseException | None) -> None:
        """Nothing more comes. The first end stands."""
        with self._changed:
            self._end(error)

    def begin(self, seconds: float | None) -> None:
        """Wait until it watches. Raises what went wrong, TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._begun or self._over, seconds):
                raise TimeoutError(f"watching {self._top!r} did not begin within {seconds:g} s.")
            if not self._begun and self._error is not None:
                raise self._error

    def _end(self, error: BaseException | None) -> None:
        if not self._over:
            self._over, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._listener is not None:
            self._listener()


# -- by looking ------------------------------------------------------------------


def look_for_changes(
    backend: FileBackend,
    top: str,
    watch: Watch,
    call: FileCall,
    *,
    recursive: bool,
) -> None:
    """Look at the folder now and then, for as long as it is there: what was made and removed
    between two looks is missed, and a rename is a removal and something new."""
    before = _look(backend, top, call, recursive)
    watch.ready()
    woken = threading.Event()
    call.on_cancel(woken.set)
    while True:
        left = call.remaining()
        woken.wait(_LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS))
        call.check()
        try:
            now = _look(backend, top, call, recursive)
        except (FileNotFoundError, NotADirectoryError):
            watch.receive(FileEvent("removed", top, is_dir=True))
            return
        except FileTooLargeError:
            watch.receive(FileEvent("missed", top, is_dir=True))
            continue
        for event in _differences(before, now):
            watch.receive(event)
        before = now


def _look(backend: FileBackend, top: str, call: FileCall, recursive: bool) -> _Seen:
    seen: _Seen = {}
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            found = backend.list(folder, call, max_entries=_MOST_ENTRIES - len(seen))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            if folder == top:
                raise
            continue  # it has gone meanwhile, or nobody may look into it
        for info in found:
            path = posixpath.join(folder, info.name)
            seen[path] = info
            if recursive and info.is_dir:
                waiting.append(path)
    return seen


def _differences(before: _Seen, now: _Seen) -> Iterator[FileEvent]:
    for path, info in before.items():
        if path not in now:
            yield FileEvent("removed", path, is_dir=info.is_dir)
    for path, info in now.items():
        old = before.get(path)
        if old is None or old.kind != info.kind:
            yield FileEvent("created", path, is_dir=info.is_dir)
        elif not info.is_dir and (old.size, old.modified_ns, old.target) != (
            info.size,
            info.modified_ns,
            info.target,
        ):
            yield FileEvent("modified", path)
        elif (old.mode, old.uid, old.gid) != (info.mode, info.uid, info.gid):
            yield FileEvent("attributes", path, is_dir=info.is_dir)
