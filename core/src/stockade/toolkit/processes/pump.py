"""Moving bytes between a local program's pipes and core: for walls on this machine.

:func:`pump` serves one execution whose standard streams are file descriptors
of this process; :class:`LocalRunning` is a whole ``Running`` over a
``subprocess.Popen``. Both need a system whose pipes can be waited for (not Windows).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from stockade.results import Stream
from stockade.system.threads import start_thread
from stockade.toolkit.processes.children import Child
from stockade.toolkit.processes.marks import marked, own_folder, take_mark
from stockade.wall import Exit, Output, Running

__all__ = ["LocalRunning", "Waker", "own_folder", "pump"]

_READ_BYTES = 256 * 1024
#: How soon a reader that was full is asked again whether it has caught up.
_RECHECK_SECONDS = 0.02
#: How long a tree that is being killed is looked for; it forks no more long before.
_TREE_SECONDS = 0.7


class Waker:
    """A descriptor that becomes readable once ``set`` is called, from any thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self._open = True

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._read

    def set(self) -> None:
        """Wake the waiter; from any thread, any number of times, also when it is closed."""
        with self._lock:
            if self._open:
                os.write(self._write, b"x")

    def close(self) -> None:
        """Give the descriptors back; may be called again."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._read)
                os.close(self._write)


class _Ready:
    """Waits until one of some pipes is ready: by ``poll``, or ``select`` where there is none."""

    def __init__(self) -> None:
        self._watched: dict[int, bool] = {}  # whether it is written to
        self._poll = select.poll() if hasattr(select, "poll") else None

    def watch(self, descriptor: int, *, writing: bool = False) -> None:
        self._watched[descriptor] = writing
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLOUT if writing else select.POLLIN)

    def forget(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None and self._poll is not None:
            self._poll.unregister(descriptor)

    def wait(self, seconds: float | None) -> list[int]:
        """Those that are ready, or whose other side is gone; none after ``seconds``."""
        if self._poll is not None:
            found = self._poll.poll(None if seconds is None else seconds * 1000)
            return [descriptor for descriptor, _ in found]
        into = [descriptor for descriptor, writing in self._watched.items() if writing]
        out_of = [descriptor for descriptor in self._watched if descriptor not in into]
        readable, writable, _ = select.select(out_of, into, [], seconds)
        return [*readable, *writable]


class _Pump:
    """One execution's pipes; every descriptor is closed at the end."""

    def __init__(
        self,
        stdin: int,
        data: bytes,
        streams: dict[int, Stream],
        output: Output,
        ended: Waker,
        fed: Callable[[], None] | None = None,
    ) -> None:
        """``fed`` is called when all of ``data`` has been handed over, or nobody reads it."""
        self._stdin = stdin
        self._left = memoryview(data)
        self._streams = dict(streams)
        self._output = output
        self._ended = ended
        self._fed = fed
        self._ready = _Ready()

    def run(self) -> None:
        try:
            for descriptor in (self._stdin, *self._streams):
                os.set_blocking(descriptor, False)
            self._ready.watch(self._ended.fileno())
            self._feed()
            while not self._step():
                pass
            for descriptor in list(self._streams):
                self._drain(descriptor)
        finally:
            self._close_stdin()
            for descriptor in list(self._streams):
                os.close(descriptor)
            self._streams.clear()

    def _step(self) -> bool:
        """Serve what is ready; whether the program has ended."""
        held = False
        for descriptor, stream in self._streams.items():
            if self._output.room(stream) or self._output.full(stream):
                self._ready.watch(descriptor)
            else:
                # A live reader is behind: the bytes stay in the pipe meanwhile.
                held = True
                self._ready.forget(descriptor)
        ready = self._ready.wait(_RECHECK_SECONDS if held else None)
        for descriptor in ready:
            if descriptor == self._stdin:
                self._feed()
            elif descriptor in self._streams:
                self._take(descriptor)
        return self._ended.fileno() in ready

    def _take(self, descriptor: int) -> bool:
        """Read once; whether there may be more now."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._ready.forget(descriptor)
            del self._streams[descriptor]
            os.close(descriptor)
            return False
        stream = self._streams[descriptor]
        if self._output.full(stream):
            self._output.drop(stream, len(data))
        else:
            self._output.write(stream, data)
        return True

    def _drain(self, descriptor: int) -> None:
        """What the program wrote before it ended; not what its children still write.

        A pipe holds a bounded amount, so a child that goes on writing cannot keep
        this going: it is read at most as often as would empty the largest pipe.
        """
        self._ready.watch(descriptor)
        for _ in range(64):
            if not self._take(descriptor):
                return

    def _feed(self) -> None:
        """Hand over the input that fits; close it when done or when the program reads no more."""
        if self._stdin < 0:
            return
        try:
            while self._left:
                written = os.write(self._stdin, self._left[: 1 << 20])
                self._left = self._left[written:]
        except BlockingIOError:
            self._ready.watch(self._stdin, writing=True)
            return
        except OSError:  # EPIPE: the program reads no more
            pass
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self._ready.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
            if self._fed is not None:
                self._fed()


def pump(stdin: int, data: bytes, stdout: int, stderr: int, output: Output, ended: Waker) -> None:
    """Serve one execution until ``ended`` is set, then take what is left in the pipes.

    The three descriptors are this side's ends of the pipes and are closed here.
    Returns without waiting for end-of-file, since a child that the program left
    behind may hold its output open (D7). Called by a wall's ``Running.wait``.
    """
    _Pump(stdin, data, {stdout: Stream.STDOUT, stderr: Stream.STDERR}, output, ended).run()


class _OpenInput:
    """A program's input that stays open (D17): what its pipe holds is all that waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        #: What goes before it has been handed over.
        self.ready = threading.Event()
        os.set_blocking(descriptor, False)

    def write(self, data: bytes, seconds: float) -> int:
        if not self.ready.wait(seconds):
            return 0
        with self._lock:  # nobody closes it meanwhile
            if self._descriptor < 0:
                raise ProcessLookupError("the program has ended")
            select.select([], [self._descriptor], [], seconds)
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                return 0
            except BrokenPipeError:  # it reads no more
                return len(data)

    def close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


class LocalRunning(Running):
    """A program of this machine in a session and process group of its own.

    ``start`` marks it, so that ``kill`` and the program's own end take its whole
    tree along (D6, D7), and so does the end of this process, however it ends (C9).
    A program that means to can shed the mark; what must hold against such a program
    needs a process namespace around it, as every wall that isolates has. Made by
    the constructor it has no mark, and only its group ends.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        data: bytes,
        output: Output,
        *,
        mark: int = 0,
        live_input: bool = False,
    ) -> None:
        """``process`` has pipes for all three streams, or ``stderr=STDOUT`` where they are
        merged, and ``start_new_session=True``. ``live_input``: ``write`` is used (D17)."""
        assert process.stdin is not None
        self._input: _OpenInput | None = None
        if live_input:
            self._input = _OpenInput(os.dup(process.stdin.fileno()))
        self._gone = threading.Event()
        self._process = process
        self._data = data
        self._output = output
        self._mark = mark
        self._ended = Waker()
        self._lock = threading.Lock()
        try:
            start_thread(threading.Thread(target=self._reap, daemon=True, name="stockade-reap"))
        except BaseException:
            with process:  # which closes its pipes and reaps it
                self._end_tree()  # nobody would notice its end, or end it
            self._ended.close()
            raise

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        stdin: bytes,
        output: Output,
        *,
        working_dir: str,
        env: Mapping[str, str],
        live_input: bool = False,
        merge: bool = False,
    ) -> LocalRunning:
        """Start a program of this machine; ``env`` is all that it sees of variables.

        Called by ``Sandbox.start``, with a request that ``lower`` has put into the argv
        form; a wall that is a program (firejail, nsjail) puts its own words before it. A
        missing program exits with 127, one that may not be executed with 126 (D2), for
        which a ``sh`` is needed. ``live_input`` and ``merge`` as the request has them.
        Raises FileNotFoundError or NotADirectoryError for the working folder, CapacityError
        if there is no thread to watch it.
        """
        mark = take_mark()
        word = "exec env --" if argv[0].startswith("-") else "exec"
        process = Child(
            ["sh", "-c", f'ulimit -d {mark} 2>/dev/null; {word} "$@"', "sh", *argv],
            cwd=working_dir,
            env=dict(env),
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        )
        return cls(process, stdin, output, mark=mark * 1024, live_input=live_input)

    def _reap(self) -> None:
        """Notice the end of the program, in a thread of its own."""
        if hasattr(os, "waitid"):
            # Without reaping it: until `wait` does, the group's id stays its own.
            with contextlib.suppress(ChildProcessError):  # this process ignores SIGCHLD
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
            with self._lock:  # at once: nobody can have the group's id so soon
                self._end_tree()
        self._gone.set()
        self._ended.set()

    def wait(self) -> Exit:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        stdin = _taken(process.stdin)
        streams = {_taken(process.stdout): Stream.STDOUT}
        if process.stderr is not None:
            streams[_taken(process.stderr)] = Stream.STDERR
        try:
            fed = None if self._input is None else self._input.ready.set
            _Pump(stdin, self._data, streams, self._output, self._ended, fed).run()
        finally:
            self.close_input()
        with self._lock:
            self._end_tree()  # what it left behind ends with it
            code = process.wait()
        self._ended.close()
        return Exit(code=code) if code >= 0 else Exit(signal=-code)

    def kill(self) -> None:
        with self._lock:
            if self._process.returncode is None:
                self._end_tree()

    def signal(self, number: int, *, group: bool) -> None:
        with self._lock:  # until it is reaped, its number is nobody else's
            if self._gone.is_set() or self._process.returncode is not None:
                raise ProcessLookupError("the program has ended")
            apart = isinstance(self._process, Child) and self._process.apart
            (os.killpg if group or apart else os.kill)(self._process.pid, number)

    def write(self, data: bytes, seconds: float) -> int:
        assert self._input is not None  # core writes to what was asked for alone
        return self._input.write(data, seconds)

    def close_input(self) -> None:
        if self._input is not None:
            self._input.close()

    def _end_tree(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        until = time.monotonic() + _TREE_SECONDS
        while self._mark and time.monotonic() < until:
            found = marked(self._mark)
            if not found:
                return
            # Stop first: what is stopped cannot fork away from the kill.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in found:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)


def _taken(file: IO[bytes]) -> int:
    """A file's descriptor, as this module's own."""
    descriptor = os.dup(file.fileno())
    file.close()
    return descriptor
