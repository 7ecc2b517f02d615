"""Moving bytes between a local program's pipes and core: for walls on this machine.

:func:`pump` serves one execution whose standard streams are file descriptors
of this process; :class:`LocalRunning` is a whole ``Running`` over a
``subprocess.Popen``. Both need a system with ``poll`` (not Windows).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from stockade.results import Stream
from stockade.wall import Exit, Output, Running

__all__ = ["LocalRunning", "Waker", "own_folder", "pump"]

_READ_BYTES = 256 * 1024
#: How soon a reader that was full is asked again whether it has caught up.
_RECHECK_MS = 20
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
#: How long a tree that is being killed is looked for; it forks no more long before.
_TREE_SECONDS = 0.7


class Waker:
    """A descriptor that becomes readable once ``set`` is called, from any thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self._open = True

    def fileno(self) -> int:
        return self._read

    def set(self) -> None:
        with self._lock:
            if self._open:
                os.write(self._write, b"x")

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._read)
                os.close(self._write)


class _Pump:
    """One execution's pipes; every descriptor is closed at the end."""

    def __init__(
        self, stdin: int, data: bytes, streams: dict[int, Stream], output: Output, ended: Waker
    ) -> None:
        self._stdin = stdin
        self._left = memoryview(data)
        self._streams = dict(streams)
        self._output = output
        self._ended = ended
        self._poll = select.poll()

    def run(self) -> None:
        try:
            for descriptor in (self._stdin, *self._streams):
                os.set_blocking(descriptor, False)
            self._poll.register(self._ended.fileno(), select.POLLIN)
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
                self._poll.register(descriptor, select.POLLIN)
            else:
                # A live reader is behind: the bytes stay in the pipe meanwhile.
                held = True
                with contextlib.suppress(KeyError):
                    self._poll.unregister(descriptor)
        ready = self._poll.poll(_RECHECK_MS if held else None)
        for descriptor, _ in ready:
            if descriptor == self._stdin:
                self._feed()
            elif descriptor in self._streams:
                self._take(descriptor)
        return any(descriptor == self._ended.fileno() for descriptor, _ in ready)

    def _take(self, descriptor: int) -> bool:
        """Read once; whether there may be more now."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(descriptor)
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
        with contextlib.suppress(KeyError):
            self._poll.register(descriptor, select.POLLIN)
        for _ in range(64):
            if not self._take(descriptor):
                return

    def _feed(self) -> None:
        """Hand over as much input as fits; close it when done or when nobody reads."""
        if self._stdin < 0:
            return
        try:
            while self._left:
                written = os.write(self._stdin, self._left[: 1 << 20])
                self._left = self._left[written:]
        except BlockingIOError:
            self._poll.register(self._stdin, select.POLLOUT)
            return
        except OSError:  # EPIPE: the program reads no more
            pass
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._stdin)
            os.close(self._stdin)
            self._stdin = -1


def pump(stdin: int, data: bytes, stdout: int, stderr: int, output: Output, ended: Waker) -> None:
    """Serve one execution until ``ended`` is set, then take what is left in the pipes.

    The three descriptors are this side's ends of the pipes and are closed here.
    Returns without waiting for end-of-file, since a child that the program left
    behind may hold its output open (D7). Called by a wall's ``Running.wait``.
    """
    _Pump(stdin, data, {stdout: Stream.STDOUT, stderr: Stream.STDERR}, output, ended).run()


class LocalRunning(Running):
    """A program of this machine in a session and process group of its own.

    ``start`` marks it, so that ``kill`` and the program's own end take its whole
    tree along (D6, D7), and so does the end of this process, however it ends (C9).
    A program that means to can shed the mark; what must hold against such a one
    needs a process namespace around it, as every wall that isolates has. Made by
    the constructor it has no mark, and only its group ends.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], data: bytes, output: Output, *, mark: int = 0
    ) -> None:
        """``process`` was started with pipes for all three streams and
        ``start_new_session=True``."""
        self._process = process
        self._data = data
        self._output = output
        self._mark = mark
        self._ended = Waker()
        self._lock = threading.Lock()
        threading.Thread(target=self._reap, daemon=True, name="stockade-reap").start()

    @classmethod
    def start(
        cls, argv: Sequence[str], stdin: bytes, output: Output, *, working_dir: str,
        env: Mapping[str, str],
    ) -> LocalRunning:  # fmt: skip
        """Start a program of this machine; ``env`` is all that it sees of variables.

        Called by ``Sandbox.start``, with a request that ``lower`` has put into the argv
        form; a wall that is a program (firejail, nsjail) puts its own words before it. A
        missing program exits with 127, one that may not be executed with 126 (D2), for
        which a ``sh`` is needed. Raises FileNotFoundError or NotADirectoryError for the
        working folder.
        """
        mark = _marks.take()
        word = "exec env --" if argv[0].startswith("-") else "exec"
        process = subprocess.Popen(
            ["sh", "-c", f'ulimit -d {mark} 2>/dev/null; {word} "$@"', "sh", *argv],
            cwd=working_dir, env=dict(env), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        return cls(process, stdin, output, mark=mark * 1024)

    def _reap(self) -> None:
        # Waits without reaping: until `wait` reaps it, the group's id stays its own.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._ended.set()

    def wait(self) -> Exit:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        ends = [os.dup(file.fileno()) for file in (process.stdin, process.stdout, process.stderr)]
        for file in (process.stdin, process.stdout, process.stderr):
            file.close()
        pump(ends[0], self._data, ends[1], ends[2], self._output, self._ended)
        with self._lock:
            self._end_tree()  # what it left behind ends with it
            code = process.wait()
        self._ended.close()
        return Exit(code=code) if code >= 0 else Exit(signal=-code)

    def kill(self) -> None:
        with self._lock:
            if self._process.returncode is None:
                self._end_tree()

    def _end_tree(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        until = time.monotonic() + _TREE_SECONDS
        while self._mark and time.monotonic() < until:
            found = _marked(self._mark)
            if not found:
                return
            # Stop first: what is stopped cannot fork away from the kill.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in found:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)


# Waits for the end of its input, which is the end of the process that started it, then
# kills what carries a mark from $1 to $2 (bytes) until nothing does, and removes the
# folders that it was told of, one a line.
_GUARD = """
trap '' HUP INT QUIT TERM
folders=
while IFS= read -r line; do folders="$folders
$line"; done
remove() {
  IFS='
'
  set -f
  [ -z "$folders" ] || rm -rf -- $folders
  exit
}
rounds=0
while [ $rounds -lt 200 ]; do
  rounds=$((rounds + 1)) found=
  for p in /proc/[0-9]*; do
    while read -r a b c soft hard _; do
      [ "$a $b $c" = "Max data size" ] || continue
      case $hard in *[!0-9]*) break;; esac
      [ $hard -lt $1 ] || [ $hard -gt $2 ] || ! read -r line <$p/stat || case ${line##*)} in
        " Z"* | " X"*) ;; # dead, and its parent does not care
        *) found="$found ${p#/proc/}";;
      esac
      break
    done <$p/limits
  done
  [ -n "$found" ] || remove
  kill -STOP $found
  kill -KILL $found
done
remove
"""


class _Marks:
    """A mark for each execution of this process, and one guard that outlives it.

    A mark is a limit (KiB of data) far above any use: children inherit it, and it can
    be lowered but not raised. A process's marks lie side by side, beginning at random.
    """

    _COUNT = 1 << 20

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0  # whose guard it is: a fork needs one of its own
        self._first = self._taken = 0
        self._hold = -1  # the guard's input ends when this does

    def take(self) -> int:
        with self._lock:
            self._guard()
            self._taken += 1
            return self._first + self._taken % self._COUNT

    def remove(self, folder: str) -> None:
        """Have the guard remove it in the end."""
        with self._lock:
            self._guard()
            try:
                os.write(self._hold, os.fsencode(folder) + b"\n")
            except BrokenPipeError:  # somebody killed the guard
                self._leave()
                self._guard()
                os.write(self._hold, os.fsencode(folder) + b"\n")

    def forget(self) -> None:
        """In a forked child: the guard waits for the parent alone."""
        self._lock = threading.Lock()
        self._leave()

    def _leave(self) -> None:
        if self._hold >= 0:
            os.close(self._hold)
        self._hold, self._pid = -1, 0

    def _guard(self) -> None:
        if self._pid == os.getpid():
            return
        self._first = (1 << 40) + secrets.randbelow(1 << 31) * self._COUNT
        limits = [str(self._first * 1024), str((self._first + self._COUNT) * 1024)]
        theirs, self._hold = os.pipe()
        try:
            # By a shell that ends at once: the guard is init's child then, and nobody's zombie.
            line = 'sh -c "$1" stockade-guard "$2" "$3" <&3 3<&- &'
            subprocess.run(
                ["sh", "-c", f"exec 3<&0; {line}", "sh", _GUARD, *limits],
                stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, cwd="/", check=True,
            )  # fmt: skip
        finally:
            os.close(theirs)
        self._pid = os.getpid()


_marks = _Marks()
os.register_at_fork(after_in_child=_marks.forget)


def own_folder(path: str) -> str:
    """Make a folder for this user alone that goes when this process does, however it
    ends (C9); one that this process made already is fine. Returns ``path``, absolute.

    For what a wall of this machine must keep on disk. Give it a name that nobody can
    foresee. Raises FileExistsError where somebody else made it, OSError.
    """
    path = os.path.abspath(path)
    with _folders_lock:
        if path not in _folders:
            if "\n" in path:
                raise ValueError(f"{path!r}: a folder's name without line ends is needed")
            os.mkdir(path, 0o700)
            _folders.add(path)
            _marks.remove(path)
    return path


_folders: set[str] = set()
_folders_lock = threading.Lock()


def _marked(mark: int) -> list[int]:
    """The live processes that carry the mark; none where there is no /proc to see."""
    found = []
    number = str(mark).encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/limits", "rb") as file:
                line = file.read().partition(b"Max data size")[2].partition(b"\n")[0]
            if number not in line.split():
                continue
            with open(f"/proc/{name}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if state not in (b"Z", b"X"):
            found.append(int(name))
    return found
