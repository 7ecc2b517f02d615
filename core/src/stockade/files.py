"""Files of a sandbox, reached from inside it (F1 to F4).

Every path is resolved by a program in the sandbox, so a link planted there
leads nowhere on the host. It works over any wall that runs an argument vector
with standard input and has ``sh`` and the usual small programs inside; a sandbox
that has none serves its files itself (:mod:`stockade.file_backend`).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NoReturn

import attrs

from stockade import archives
from stockade.capabilities import Feature
from stockade.config import MIB
from stockade.errors import ConfigError, FileTooLargeError, StockadeError
from stockade.file_backend import FileInfo
from stockade.results import SandboxResult, Verdict

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["DEFAULT_MAX_BYTES", "SCRIPTS", "FileInfo", "Files"]

#: The largest file a read brings out unless told otherwise (F2).
DEFAULT_MAX_BYTES = 64 * MIB
#: How long one transfer may take.
TRANSFER_SECONDS = 300.0

# The scripts say what is wrong through their exit code; 90 and up are taken by
# no program they call. Paths come as "$1", with a leading "./" where one could
# be read as an option.
_CODES = {
    90: errno.ENOENT,
    91: errno.EISDIR,
    92: errno.ENOTDIR,
    93: errno.EACCES,
    95: errno.ENOSPC,
    96: errno.EEXIST,
    97: errno.ENOTEMPTY,
}
_TOO_LARGE = 94

# why PATH: which of the errors a local call would give, looked for after a failure:
# each parent is asked in turn, since "no such file" hides a file among the parents.
_WHY = """
why() {
  p=$1
  while [ "$p" != / ] && [ -n "$p" ]; do
    q=${p%/*}; [ -n "$q" ] || q=/
    if [ -e "$q" ] || [ -L "$q" ]; then
      [ -d "$q" ] || exit 92
      [ -x "$q" ] || exit 93
      break
    fi
    p=$q
  done
}
full() { [ "$(df -P "$1" 2>/dev/null | awk 'NR==2{print $4}')" = 0 ] && exit 95; exit 93; }
"""
_READ = (
    _WHY
    + """
[ -d "$1" ] && exit 91
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
[ -r "$1" ] || exit 93
n=$(wc -c < "$1") || exit 93
[ "$n" -le "$2" ] || exit 94
exec head -c "$(($2 + 1))" < "$1"
"""
)
_WRITE = (
    _WHY
    + """
[ -d "$1" ] && exit 91
d=${1%/*}
if [ -n "$d" ] && [ ! -d "$d" ]; then
  mkdir -p "$d" 2>/dev/null || { why "$d/x"; [ -e "$d" ] && exit 92; exit 93; }
fi
if [ -e "$1" ] && [ ! -w "$1" ]; then exit 93; fi
cat > "$1" || { [ -e "$1" ] || full "$d"; exit 95; }
[ -z "$2" ] || chmod "$2" "$1"
"""
)
_REMOVE = (
    _WHY
    + """
if [ ! -e "$1" ] && [ ! -L "$1" ]; then why "$1"; exit 90; fi
if [ -d "$1" ] && [ ! -L "$1" ]; then
  if [ "$2" = tree ]; then rm -rf "$1" 2>/dev/null || exit 93
  else [ -z "$(ls -A "$1")" ] || exit 97; rmdir "$1" 2>/dev/null || exit 93; fi
else rm -f "$1" 2>/dev/null || exit 93; fi
"""
)
_MAKE_DIR = (
    _WHY
    + """
[ -d "$1" ] && exit 0
[ -e "$1" ] && exit 96
mkdir -p "$1" 2>/dev/null || { why "$1"; exit 93; }
"""
)
# One entry: kind, size, mode, NUL, name, NUL. No stat(1): formats differ among systems,
# and `ls -l` gives type, mode and size in fixed columns everywhere.
# GNU ls fails under kernels that lack a call it wants (gVisor of 2022): then find tells.
_ABOUT = """
about() {
  LC_ALL=C ls -ldn "$1" 2>/dev/null || find "$1" -maxdepth 0 -printf '%M 1 0 0 %s' 2>/dev/null
}
"""
_LIST = (
    _WHY
    + _ABOUT
    + """
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
[ -d "$1" ] || exit 92
[ -r "$1" ] && [ -x "$1" ] || exit 93
cd "$1" || exit 93
for f in * .*; do
  case $f in .|..) continue;; esac
  [ -e "$f" ] || [ -L "$f" ] || continue
  set -- $(about "./$f")
  printf '%s %s\\0%s\\0' "$1" "$5" "$f"
done
"""
)
_STAT = (
    _WHY
    + _ABOUT
    + """
if [ ! -e "$1" ] && [ ! -L "$1" ]; then why "$1"; exit 90; fi
f=$1; set -- $(about "$1")
printf '%s %s\\0%s\\0' "$1" "$5" "$f"
"""
)
_PACK = (
    _WHY
    + """
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
[ -d "$1" ] || exit 92
cd "$1" && exec tar -cf - .
"""
)
_UNPACK = (
    _WHY
    + """
mkdir -p "$1" 2>/dev/null || { why "$1/x"; exit 92; }
cd "$1" && exec tar -xf - 2>&1
"""
)

#: Each of them, as the argument after ``sh -c``; the path follows as ``$1``.
SCRIPTS = frozenset({_READ, _WRITE, _REMOVE, _MAKE_DIR, _LIST, _STAT, _PACK, _UNPACK})


class Files:
    """A session's files; paths are absolute, or relative to its working folder.

    Every method raises FileNotFoundError, IsADirectoryError, NotADirectoryError
    or PermissionError as a local file would, naming the path (F2), and OSError
    (ENOSPC) when the writable space is full (E2).
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        wall = session.provider.wall
        wall.capabilities.require(
            Feature.FILES, session.provider.name, "print what you need on standard output."
        )
        self._backend = session._sandbox().files()

    def read(self, path: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
        """The bytes of a file. Raises FileTooLargeError past ``max_bytes``."""
        path = self._absolute(path)
        if self._backend is not None:
            return self._backend.read(path, max_bytes)
        result = self._run(_READ, path, str(max_bytes), limit=max_bytes + 1)
        if result.exit_code == _TOO_LARGE or len(result.stdout_bytes) > max_bytes:
            raise FileTooLargeError(path, max_bytes)
        self._check(result, path)
        return result.stdout_bytes

    def read_text(self, path: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
        """The file decoded as UTF-8; raises UnicodeDecodeError where it is not that."""
        return self.read(path, max_bytes=max_bytes).decode("utf-8")

    def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Write or replace a file, making parent folders; ``mode`` as in ``0o755`` (F1)."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ConfigError(f"data is bytes, not {type(data).__name__}; or use write_text.")
        path = self._absolute(path)
        if self._backend is not None:
            self._backend.write(path, bytes(data), mode)
            return
        text = "" if mode is None else f"{mode & 0o7777:o}"
        self._check(self._run(_WRITE, path, text, stdin=bytes(data)), path)

    def write_text(self, path: str, text: str, *, mode: int | None = None) -> None:
        self.write(path, text.encode("utf-8"), mode=mode)

    def list(self, path: str = ".") -> list[FileInfo]:
        """The entries of a folder, sorted by name (F4)."""
        path = self._absolute(path)
        if self._backend is not None:
            return sorted(self._backend.list(path), key=lambda info: info.name)
        result = self._check(self._run(_LIST, path, limit=DEFAULT_MAX_BYTES), path)
        return sorted(_infos(result.stdout_bytes), key=lambda info: info.name)

    def stat(self, path: str) -> FileInfo:
        """One entry; a link is not followed."""
        path = self._absolute(path)
        if self._backend is not None:
            return self._backend.stat(path)
        found = _infos(self._check(self._run(_STAT, path), path).stdout_bytes)
        if len(found) != 1:
            raise StockadeError(f"the sandbox's listing of {path!r} makes no sense.")
        return attrs.evolve(found[0], name=os.path.basename(path))

    def exists(self, path: str) -> bool:
        """Whether something is there, a dangling link included."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_dir(self, path: str) -> None:
        """Make a folder and its parents; one that is there already is fine."""
        path = self._absolute(path)
        if self._backend is not None:
            self._backend.make_dir(path)
            return
        self._check(self._run(_MAKE_DIR, path), path)

    def remove(self, path: str, *, tree: bool = False) -> None:
        """Remove a file, a link, or an empty folder; with ``tree`` a whole one."""
        path = self._absolute(path)
        if self._backend is not None:
            self._backend.remove(path, tree=tree)
            return
        self._check(self._run(_REMOVE, path, "tree" if tree else ""), path)

    def put_tree(self, source: str | os.PathLike[str], path: str) -> None:
        """Copy a host folder's content into a folder of the sandbox (F4)."""
        path = self._absolute(path)
        if self._backend is not None:
            self._backend.unpack(path, archives.pack(source))
            return
        self._check(self._run(_UNPACK, path, stdin=archives.pack(source)), path)

    def get_tree(
        self, path: str, destination: str | os.PathLike[str], *,
        max_bytes: int = 4 * DEFAULT_MAX_BYTES,
    ) -> None:  # fmt: skip
        """Bring a folder's content out into a host folder, which is made if missing.

        Nothing is written outside of ``destination``, whatever the sandbox sends:
        links that lead out, devices and absolute names are refused (F3).
        """
        path = self._absolute(path)
        data = self._pack(path, max_bytes)
        if data is None:
            raise FileTooLargeError(path, max_bytes)
        archives.unpack(data, destination)

    def _pack(self, path: str, max_bytes: int) -> bytes | None:
        if self._backend is not None:
            return self._backend.pack(path, max_bytes)
        result = self._run(_PACK, path, limit=max_bytes)
        if result.stdout_truncated:
            return None
        return self._check(result, path).stdout_bytes

    # -- the way there -------------------------------------------------------

    def _absolute(self, path: str) -> str:
        if not isinstance(path, str) or not path or "\0" in path:
            raise ConfigError(f"path={path!r:.80} is not allowed: give text without NUL.")
        base = self._session._record.config.working_dir
        if self._backend is not None:
            base = self._backend.root
        return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"

    def _run(self, script: str, *args: str, stdin: bytes = b"", limit: int = MIB) -> SandboxResult:
        return self._session.run(
            ["sh", "-c", script, "sh", *args],
            stdin=stdin,
            timeout=TRANSFER_SECONDS,
            output_limit_bytes=max(limit, 1),
        )

    def _check(self, result: SandboxResult, path: str) -> SandboxResult:
        if result.success:
            return result
        number = _CODES.get(result.exit_code)
        if result.verdict is Verdict.EXITED and number is not None:
            _raise(number, path)
        detail = result.stderr.strip()[:500] or str(result.verdict)
        raise StockadeError(
            f"the transfer of {path!r} ended with code {result.exit_code}: {detail}. "
            "Check that the sandbox has sh, cat, head, ls and tar."
        )


def _raise(number: int, path: str) -> NoReturn:
    raise OSError(number, os.strerror(number), path)


_KINDS = {"-": "file", "d": "dir", "l": "link"}


def _infos(data: bytes) -> list[FileInfo]:
    fields = data.split(b"\0")[:-1]
    if len(fields) % 2:
        raise StockadeError("the sandbox's listing makes no sense; a program inside may forge it.")
    infos = []
    for head, name in zip(fields[::2], fields[1::2], strict=True):
        perms, _, size = head.decode("ascii", "replace").partition(" ")
        kind = _KINDS.get(perms[:1], "other")
        number = int(size) if kind == "file" and size.isdigit() and len(size) < 20 else 0
        infos.append(FileInfo(os.fsdecode(name), kind, number, _mode(perms)))
    return infos


def _mode(perms: str) -> int:
    """``-rwxr-x---`` to 0o750, setuid, setgid and sticky included."""
    mode = 0
    flags = (
        ("r", stat.S_IRUSR), ("w", stat.S_IWUSR), ("xs", stat.S_IXUSR),
        ("r", stat.S_IRGRP), ("w", stat.S_IWGRP), ("xs", stat.S_IXGRP),
        ("r", stat.S_IROTH), ("w", stat.S_IWOTH), ("xt", stat.S_IXOTH),
    )  # fmt: skip
    for char, (letters, bit) in zip(perms[1:10], flags, strict=False):
        mode |= bit if char in letters else 0
    for place, bit in ((3, stat.S_ISUID), (6, stat.S_ISGID), (9, stat.S_ISVTX)):
        mode |= bit if perms[place : place + 1] in ("s", "S", "t", "T") else 0
    return mode
