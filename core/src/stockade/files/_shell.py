"""Files by the sandbox's own programs: for walls that run programs and serve no files.

It needs ``sh``, ``cat``, ``head``, ``find``, ``stat``, ``mkdir``, ``rm``, ``cp``, ``mv`` and
``tar`` inside, GNU's or busybox's. Each call is an execution of the session or two, whatever
the number of files. What it lacks where a supervisor's file server does not: more than 256 MiB
in ``put_tree``; by busybox, parts of seconds, and the targets of links in listings; line breaks
in the paths of folders, and in those that a snapshot of a whole root takes. Paths are resolved
inside, so a link that was planted there leads nowhere on the host (F3).
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn, Protocol

import attrs

from stockade._entries import DIR, FILE, LINK, OTHER, Entry, FileInfo, Missed, Misses, TreeItem
from stockade.config import MIB, OutputPolicy
from stockade.errors import (
    CancelledError,
    FileTooLargeError,
    SpecialFileError,
    StockadeError,
)
from stockade.executions._execution import Execution
from stockade.file_backend import FileBackend, FileCall
from stockade.files import _scripts as scripts
from stockade.files import _tar as tar
from stockade.results import SandboxResult, Verdict

__all__ = ["ShellFiles", "Start"]

_BATCH_BYTES = 32 * MIB
_BLOCK = 65536
_MAX_LIST_BYTES = 32 * MIB
#: What an archive may have beside its files' content.
_HEADERS_BYTES = 64 * MIB
#: What an execution may keep of its output, and how long it may take: core's own bounds.
_MAX_OUTPUT, _MAX_SECONDS = 1024 * MIB, 30 * 86_400.0
#: Programs speak so that their words are known, and the caller's variables change nothing.
_ENV = {"LC_ALL": "C", "TAR_OPTIONS": ""}


class Start(Protocol):
    """``Session.start``, as far as it is needed here."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes,
        timeout: float,
        env: dict[str, str],
        working_dir: str,
        output_limit_bytes: int,
        output_policy: OutputPolicy,
    ) -> Execution: ...


class ShellFiles(FileBackend):
    """Files over executions; ``start`` starts one, as ``Session.start`` does."""

    def __init__(self, start: Start) -> None:
        self._start = start

    def read(
        self, path: str, call: FileCall, *, offset: int, length: int | None, max_bytes: int
    ) -> bytes:
        most = max_bytes + 1 if length is None else min(length, max_bytes + 1)
        whole = length is None or length > max_bytes
        largest = str(offset + max_bytes) if whole else ""
        first = str(offset + 1)
        result = self._run(call, scripts.READ, path, first, str(most), largest, limit=most)
        if _is_too_large(result):
            raise FileTooLargeError(path, max_bytes)
        _check(result, path)
        if result.stdout_truncated or len(result.stdout_bytes) > max_bytes:
            raise FileTooLargeError(path, max_bytes)
        return result.stdout_bytes

    def write(
        self,
        path: str,
        data: Iterable[bytes],
        call: FileCall,
        *,
        mode: int | None,
        append: bool,
        offset: int | None,
    ) -> None:
        how = "at" if offset is not None else "append" if append else "replace"
        at = offset or 0
        for batch, last in _batches(data, at):
            bits = f"{mode & 0o7777:o}" if last and mode is not None else ""
            # By bytes up to where whole blocks begin: a block is what dd writes at once.
            block = _BLOCK if at % _BLOCK == 0 else 1
            where = (how, str(block), str(at // block))
            _check(self._run(call, scripts.WRITE, path, bits, *where, stdin=batch), path)
            at += len(batch)
            how = "append" if offset is None else how

    def list(self, path: str, call: FileCall, *, max_entries: int) -> list[FileInfo]:
        result = self._run(call, scripts.LIST, path, limit=_MAX_LIST_BYTES)
        if result.verdict is Verdict.OUTPUT_LIMIT:
            raise FileTooLargeError(path, max_entries, "entries")
        found = list(_infos(_check(result, path).stdout_bytes))
        if len(found) > max_entries:
            raise FileTooLargeError(path, max_entries, "entries")
        return found

    def stat(self, path: str, call: FileCall, *, follow_links: bool) -> FileInfo:
        folder, name = posixpath.split(path.rstrip("/") or "/.")
        follow = "follow" if follow_links else "self"
        result = self._run(call, scripts.STAT, path, folder, name or ".", follow)
        found = list(_infos(_check(result, path).stdout_bytes))
        if len(found) != 1:
            raise StockadeError(f"the sandbox's programs gave {len(found)} answers for {path!r}.")
        if found[0].kind == LINK and found[0].target is None:
            result = _check(self._run(call, scripts.TARGET, path), path)
            target = result.stdout_bytes.removesuffix(b"\n").decode("utf-8", "surrogateescape")
            return attrs.evolve(found[0], target=target)
        return found[0]

    def make_dir(self, path: str, call: FileCall) -> None:
        _check(self._run(call, scripts.MAKE_DIR, path), path)

    def remove(self, path: str, call: FileCall, *, tree: bool) -> None:
        _check(self._run(call, scripts.REMOVE, path, "tree" if tree else ""), path)

    def move(self, source: str, destination: str, call: FileCall) -> None:
        _check(self._run(call, scripts.MOVE, source, destination), source)

    def copy(self, source: str, destination: str, call: FileCall) -> Misses:
        result = self._run(call, scripts.COPY, source, destination)
        if result.verdict is Verdict.EXITED and result.exit_code == 1:
            return list(_misses(result.stderr))
        _check(result, destination if result.exit_code in (91, 96) else source)
        return []

    # -- trees ---------------------------------------------------------------

    def get_tree(
        self,
        path: str,
        receive: Callable[[TreeItem], None],
        call: FileCall,
        *,
        max_bytes: int,
        max_entries: int,
        chosen: Sequence[str] | None = None,
    ) -> None:
        limit = max_bytes + _HEADERS_BYTES
        if chosen is None:
            result = self._run(call, scripts.GET, path, str(max_bytes), limit=limit)
        else:
            if any("\n" in name for name in chosen):
                raise StockadeError("a file's name holds a line break, which this wall cannot take")
            lines = "".join(f"{name}\n" for name in chosen).encode("utf-8", "surrogateescape")
            result = self._run(call, scripts.GET_CHOSEN, path, stdin=lines, limit=limit)
        if result.verdict is Verdict.OUTPUT_LIMIT or _is_too_large(result):
            raise FileTooLargeError(path, max_bytes)
        partly = result.verdict is Verdict.EXITED and result.exit_code in (1, 2)
        archive = result.stdout_bytes if partly else _check(result, path).stdout_bytes
        for count, item in enumerate(tar.items(archive), 1):
            if count > max_entries:
                raise FileTooLargeError(path, max_entries, "entries")
            call.check()
            receive(item)
        for missed in _misses(result.stderr) if partly else ():
            receive(missed)

    def put_tree(self, path: str, items: Iterable[TreeItem], call: FileCall) -> Misses:
        writer, folders = tar.Writer(plain=True), list[Entry]()
        for item in items:
            if isinstance(item, Entry) and item.kind == DIR:
                folders.append(item)
                # Open until what is in it is there.
                writer.take(attrs.evolve(item, mode=item.mode | 0o700))
            else:
                writer.take(item)
        result = self._run(call, scripts.PUT, path, stdin=writer.end())
        missed = writer.missed
        if result.verdict is Verdict.EXITED and result.exit_code in (1, 2):
            missed += _misses(result.stdout)
            if "No space left" in result.stdout:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        else:
            _check(result, path)
        return missed + self._settle(path, folders, call)

    def _settle(self, path: str, folders: Sequence[Entry], call: FileCall) -> Misses:
        """Set modes and times of folders, which not every tar does once all is in them."""
        lines = [
            f"{folder.mode & 0o7777:o} {(folder.modified_ns or 0) // 10**9} {folder.path}\n"
            for folder in folders
            if "\n" not in folder.path
        ]
        if lines:
            text = "".join(lines).encode("utf-8", "surrogateescape")
            _check(self._run(call, scripts.SETTLE, path, stdin=text), path)
        return [
            Missed(folder.path, "its mode and time were not set, since its name has a line break")
            for folder in folders
            if "\n" in folder.path
        ]

    # -- the way there -------------------------------------------------------

    def _run(
        self, call: FileCall, script: str, *args: str, stdin: bytes = b"", limit: int = MIB
    ) -> SandboxResult:
        left = call.remaining()
        execution = self._start(
            ["sh", "-c", script, "sh", *args],
            stdin=stdin,
            timeout=_MAX_SECONDS if left is None else min(left, _MAX_SECONDS),
            env=_ENV,
            working_dir="/",
            output_limit_bytes=min(max(limit, 1), _MAX_OUTPUT),
            output_policy=OutputPolicy.END,
        )
        call.on_cancel(execution.cancel)
        result = execution.result()
        call.check()
        if result.verdict is Verdict.TIMED_OUT:
            raise TimeoutError("the sandbox's programs took too long")
        if result.verdict is Verdict.CANCELLED:
            raise CancelledError("the file call was cancelled.")
        return result


def _batches(data: Iterable[bytes], at: int) -> Iterator[tuple[bytes, bool]]:
    """All of it in parts that one execution takes, and whether a part is the last; ``at`` is
    where it goes, and no part but the first goes to where no block begins."""
    held = bytearray()
    size = _BLOCK - at % _BLOCK if at % _BLOCK else _BATCH_BYTES
    for piece in data:
        held += piece
        while len(held) > size:
            yield bytes(held[:size]), False
            del held[:size]
            size = _BATCH_BYTES
    yield bytes(held), True


# -- what the programs say -------------------------------------------------------


#: What programs say of an error, under ``LC_ALL=C``.
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "Permission denied": errno.EACCES,
    "Read-only file system": errno.EACCES,
    "Operation not permitted": errno.EPERM,
}


def _check(result: SandboxResult, path: str) -> SandboxResult:
    """The result, where the call went well; else what a local call would raise."""
    if result.success:
        return result
    code = result.exit_code if result.verdict is Verdict.EXITED else -1
    if code in scripts.SPECIAL:
        raise SpecialFileError(path, scripts.SPECIAL[code])
    if code in scripts.CODES:
        _fail(scripts.CODES[code], path)
    said = (result.stderr or result.stdout).strip()[:500]
    for words, number in _WORDS.items():
        if words in said:
            _fail(number, path)
    if code == 127:
        raise StockadeError(
            f"the sandbox lacks a program that calls on files need, such as sh, find or tar: "
            f"{said!r}; use an image that has it."
        )
    raise StockadeError(f"the call on {path!r} failed inside: {said!r} ({result.verdict}).")


def _is_too_large(result: SandboxResult) -> bool:
    return result.verdict is Verdict.EXITED and result.exit_code == scripts.TOO_LARGE


def _fail(number: int, path: str) -> NoReturn:
    raise OSError(number, os.strerror(number), path)


_TAR_LINES = (
    re.compile(r"tar: can't \w+ '(?:\./)?(?P<path>.*)': (?P<why>.+)"),  # busybox's
    re.compile(r"tar: (?:\./)?(?P<path>.*?): (?P<why>.+)"),
)
_SUMMARY = re.compile(r"failure status|error exit delayed|Removing leading")


def _misses(said: str) -> Iterator[Missed]:
    """What tar and cp say of single files, each on a line."""
    for line in said.splitlines():
        if not line or _SUMMARY.search(line):
            continue
        found = next(
            (match for line_form in _TAR_LINES if (match := line_form.fullmatch(line))), None
        )
        yield Missed(found["path"], found["why"]) if found else Missed("", line[:500])


_TYPES = {"f": FILE, "d": DIR, "l": LINK}
_FORMATS = {0o100000: FILE, 0o040000: DIR, 0o120000: LINK}


def _infos(data: bytes) -> Iterator[FileInfo]:
    """The answer of ``LIST`` and ``STAT``; StockadeError if it is none."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        yield from _by_find(text.split("\0")) if "\0" in text else _by_stat(text.split("/"))
    except ValueError as error:
        raise StockadeError(
            f"the sandbox's programs answered what no listing is: {error!s:.200}"
        ) from None


def _by_find(fields: list[str]) -> Iterator[FileInfo]:
    for at in range(0, len(fields) - 1, 8):
        kind, mode, size, uid, gid, modified, target, name = fields[at : at + 8]
        seconds, _, fraction = modified.partition(".")
        known = _TYPES.get(kind, OTHER)
        yield FileInfo(
            _name(name),
            known,
            int(size) if known == FILE else 0,
            int(mode, 8) & 0o7777,
            int(uid),
            int(gid),
            int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0")),
            target if known == LINK else None,
        )


def _by_stat(fields: list[str]) -> Iterator[FileInfo]:
    for at in range(0, len(fields) - 1, 7):
        mode, size, uid, gid, modified, _, name = fields[at : at + 7]
        bits = int(mode, 16)
        known = _FORMATS.get(bits & 0o170000, OTHER)
        yield FileInfo(
            _name(name),
            known,
            int(size) if known == FILE else 0,
            bits & 0o7777,
            int(uid),
            int(gid),
            int(modified) * 10**9,
        )


def _name(name: str) -> str:
    if not name or "/" in name or name == "..":
        raise ValueError(f"the name {name!r}")
    return name
