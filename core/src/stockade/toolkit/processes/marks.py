"""Marks that the programs of this process carry, and the guard that outlives it (C9).

For walls of this machine that have no process namespace: a tree is found by a limit that
children inherit, and what a dead process left is ended by a small shell that waits for it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import threading

from stockade.system.forks import in_child
from stockade.toolkit.processes.children import run

__all__ = ["marked", "own_folder", "take_mark"]

#: How long the guard may take to start.
_GUARD_SECONDS = 60.0

# Waits for the end of its input, which is the end of the process that started it, then
# kills what carries a mark from $1 to $2 (bytes) until nothing does, and removes the
# folders that it was given, one a line.
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
        self.folders = threading.Lock()  #: of the folders that ``own_folder`` made
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
        self._lock, self.folders = threading.Lock(), threading.Lock()
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
            run(
                ["sh", "-c", f"exec 3<&0; {line}", "sh", _GUARD, *limits],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                timeout=_GUARD_SECONDS,
            ).check_returncode()
        finally:
            os.close(theirs)
        self._pid = os.getpid()


_folders: set[str] = set()
_marks = _Marks()
in_child(_marks.forget)


def take_mark() -> int:
    """A mark of its own for one execution, in KiB of data that it may never have."""
    return _marks.take()


def own_folder(path: str) -> str:
    """Make a folder for this user alone that goes when this process does, however it
    ends (C9); one that this process made already is fine. In a forked child so is one that
    its parent made, which goes when the parent does. Returns ``path``, absolute.

    For what a wall of this machine must keep on disk. Give it a name that nobody can
    foresee. Raises FileExistsError where somebody else made it, OSError.
    """
    path = os.path.abspath(path)
    with _marks.folders:
        if path not in _folders:
            if "\n" in path:
                raise ValueError(f"{path!r}: a folder's name without line ends is needed")
            os.mkdir(path, 0o700)
            _folders.add(path)
            _marks.remove(path)
    return path


def marked(mark: int) -> list[int]:
    """The live processes that carry the mark; none if there is no /proc to see."""
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
