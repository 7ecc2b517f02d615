"""One request behind two walls, and what differs: the work of ``stockade diff``."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from stockade.capabilities import Feature
from stockade.errors import StockadeError
from stockade.results import SandboxResult

if TYPE_CHECKING:
    from stockade.files import FileInfo
    from stockade.session import Session

__all__ = ["Difference", "Found", "Outcome", "changed_files", "files_left", "streams", "unified"]

#: At most so many files of a session are compared; that there are more is reported.
MAX_FILES = 10_000
#: A file's content is read up to this; of larger ones the size alone is compared.
MAX_CONTENT_BYTES = 64 << 20
#: Lines on either side that are compared line by line, since that takes their product in time.
_MAX_LINES = 2_000


@attrs.define
class Outcome:
    """What became of the request behind one wall: a result, or the wall's error."""

    label: str
    provider: str = ""
    isolation: str = ""
    start_seconds: float = 0.0
    result: SandboxResult | None = None
    error: Exception | None = None
    #: What is in the working folder: None if the wall has no files to look at.
    files: dict[str, Found] | None = None
    #: Why the files were not, or not all, looked at.
    files_note: str = ""

    @property
    def ending(self) -> str:
        """How it ended, in words; without what a wall prints."""
        if self.error is not None:
            return "the wall failed"
        assert self.result is not None
        name = self.result.signal_name
        return f"{self.result.verdict}{f' ({name})' if name else ''}, {self.result.exit_code}"


@attrs.define
class Found:
    """One entry of a working folder."""

    kind: str
    size: int
    mode: int
    sha256: str | None = None  #: of the content, once it was needed
    target: str | None = None  #: of a link

    def __str__(self) -> str:
        if self.kind == "link":
            return f"link to {self.target!r}"
        size = f", {self.size} bytes" if self.kind == "file" else ""
        digest = f", sha256 {self.sha256[:12]}" if self.sha256 else ""
        return f"{self.kind}{size}, mode {self.mode:o}{digest}"


@attrs.frozen
class Difference:
    """One path of the working folders; None if it is not there."""

    path: str
    first: Found | None
    second: Found | None


# -- files -----------------------------------------------------------------------


def files_left(session: Session, outcome: Outcome) -> None:
    """Note names, kinds, sizes and modes of what is in the working folder."""
    support = session.provider.wall.capabilities[Feature.FILES]
    if not support:
        outcome.files_note = f"{outcome.provider} has no files to look at"
        return
    found: dict[str, Found] = {}
    try:
        for path, info in _entries(session):
            if len(found) >= MAX_FILES:
                outcome.files_note = (
                    f"only {MAX_FILES} were looked at, and those compared that both have"
                )
                break
            found[path] = Found(info.kind, info.size, info.mode, target=info.target)
    except (StockadeError, OSError) as error:
        outcome.files_note = f"looking at the files failed: {error}"
        return
    outcome.files = found


def _entries(session: Session) -> Iterator[tuple[str, FileInfo]]:
    waiting = [""]
    while waiting:
        folder = waiting.pop(0)
        for info in session.files.list(folder or "."):
            path = f"{folder}/{info.name}" if folder else info.name
            yield path, info
            if info.kind == "dir":
                waiting.append(path)


def changed_files(
    first: tuple[Session, dict[str, Found]], second: tuple[Session, dict[str, Found]]
) -> list[Difference]:
    """The paths at which the folders differ; contents are read where nothing else decides.

    Raises StockadeError, OSError.
    """
    (one, ours), (other, theirs) = first, second
    paths = {*ours, *theirs}
    if max(len(ours), len(theirs)) >= MAX_FILES:
        paths = {*ours} & {*theirs}  # of the others nobody knows whether both have them
    differ = []
    for path in sorted(paths):
        a, b = ours.get(path), theirs.get(path)
        if a is not None and b is not None and a == b:
            a, b = _closer(one, path, a), _closer(other, path, b)
        if a != b:
            differ.append(Difference(path, a, b))
    return differ


def _closer(session: Session, path: str, found: Found) -> Found:
    """With the content's hash, or where a link leads."""
    if found.kind == "link":
        return attrs.evolve(found, target=session.files.stat(path).target)
    if found.kind != "file" or found.size > MAX_CONTENT_BYTES:
        return found
    try:
        data = session.files.read(path, max_bytes=MAX_CONTENT_BYTES)
    except PermissionError:
        return found  # its own mode forbids it, on both sides alike
    return attrs.evolve(found, sha256=hashlib.sha256(data).hexdigest())


# -- streams ---------------------------------------------------------------------


def streams(outcome: Outcome, name: str) -> tuple[bytes, int]:
    """What was kept of a stream, and how many bytes there were."""
    assert outcome.result is not None
    return getattr(outcome.result, f"{name}_bytes"), getattr(outcome.result, f"{name}_total_bytes")


def unified(one: bytes, other: bytes, labels: tuple[str, str], *, context: int = 3) -> list[str]:
    """A unified diff of two texts, or of bytes their first difference in hexadecimal.

    Control characters are escaped, since what untrusted programs print is shown on a terminal.
    """
    heads = [f"--- {labels[0]}", f"+++ {labels[1]}"]
    texts = [_text(data) for data in (one, other)]
    if texts[0] is None or texts[1] is None:
        return heads + _hexadecimal(one, other)
    ours, theirs = _lines(texts[0]), _lines(texts[1])
    same = next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    skipped = max(0, same - context)
    ours, theirs = ours[skipped:], theirs[skipped:]
    cut = len(ours) > _MAX_LINES or len(theirs) > _MAX_LINES
    body = difflib.unified_diff(ours[:_MAX_LINES], theirs[:_MAX_LINES], n=context, lineterm="")
    # Escaped only now: a program that prints "\\x1b" does not print an escape.
    shown = [_readable(_moved(line, skipped)) for line in list(body)[2:]]
    if cut:
        shown.append(
            f"... from line {skipped + _MAX_LINES + 1} on it was not compared line by line"
        )
    return heads + shown


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _lines(text: str) -> list[str]:
    """Lines without their ends; what has no end says so, since that may be the difference."""
    lines = text.split("\n")
    last = lines.pop()
    if last:
        lines.append(f"{last}\\ no newline at the end")
    return lines


def _readable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in line
    )


def _moved(line: str, by: int) -> str:
    """A hunk's head, counted from the text's true beginning."""
    if not by or not line.startswith("@@ "):
        return line
    words = line.split(" ")
    for place in (1, 2):
        sign, numbers = words[place][0], words[place][1:].split(",")
        words[place] = sign + ",".join([str(int(numbers[0]) + by), *numbers[1:]])
    return " ".join(words)


def _hexadecimal(one: bytes, other: bytes) -> list[str]:
    pairs = enumerate(zip(one, other, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    start = at - at % 16
    shown = [f"@@ bytes; the first that differs is number {at} @@"]
    for sign, data in (("-", one), ("+", other)):
        part = data[start : start + 16]
        readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        shown.append(f"{sign}{start:08x}  {part.hex(' '):<47}  {readable}")
    return shown
