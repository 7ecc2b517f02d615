"""What tools give back: structured, and bounded, since all of it comes from behind the wall."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from mcp_types import CallToolResult, ContentBlock, ImageContent, TextContent
from pydantic import BaseModel

if TYPE_CHECKING:
    from stockade.files import FileInfo
    from stockade.results import CodeError, Display, SandboxResult

__all__ = [
    "Entries",
    "Entry",
    "Output",
    "Ran",
    "RanCode",
    "Read",
    "Started",
    "State",
    "as_result",
    "of_code",
    "read",
]

#: What a model is shown as a picture; SVG and HTML are programs, and stay behind the wall.
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MOST_DISPLAYS = 32


class State(BaseModel):
    """How a program stands: while it runs, all but ``running`` is empty."""

    running: bool
    verdict: str | None = None
    exit_code: int | None = None
    signal: str | None = None

    @classmethod
    def of(cls, result: SandboxResult | None) -> State:
        if result is None:
            return cls(running=True)
        return cls(running=False, **_end(result))


class Ran(BaseModel):
    """How a program ended, and what it printed; ``truncated``: some of that was left out."""

    verdict: str
    exit_code: int
    signal: str | None
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    truncated: bool
    seconds: float

    @classmethod
    def of(cls, result: SandboxResult, limit: int) -> Ran:
        return cls(**_ran(result, limit))


class Error(BaseModel):
    """What nobody caught."""

    name: str
    message: str
    traceback: str


class RanCode(Ran):
    """The same of code, with what it shows; pictures are content of their own."""

    value: str | None = None
    displays: list[str] = []
    displays_truncated: bool = False
    pictures: int = 0
    error: Error | None = None


class Started(BaseModel):
    """A program that runs beside."""

    process_id: str


class Output(State):
    """What a program printed since it was last read; ``dropped_bytes`` came before, and is gone."""

    stdout: str
    stderr: str
    dropped_bytes: int
    more: bool


class Read(BaseModel):
    """A part of a file: as text, or in base64 where it is no UTF-8."""

    text: str = ""
    base64: str = ""
    next_offset: int
    more: bool


class Entry(BaseModel):
    """One entry of a folder."""

    name: str  #: what is no UTF-8 of it is replaced
    kind: str
    size: int

    @classmethod
    def of(cls, info: FileInfo) -> Entry:
        name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return cls(name=name, kind=info.kind, size=info.size)


class Entries(BaseModel):
    """A folder's entries."""

    entries: list[Entry]


def kept(data: bytes, total: int, gap: int | None, limit: int) -> tuple[str, bool]:
    """Text of ``limit`` bytes at most, of a stream's head and tail, and whether some is missing."""
    if gap is None and len(data) <= limit:
        return data.decode("utf-8", "replace"), False
    cut = len(data) // 2 if gap is None else gap
    head, tail = data[:cut][: limit // 2], data[cut:][-(limit // 2) :]
    missing = total - len(head) - len(tail)
    parts = (head.decode("utf-8", "replace"), tail.decode("utf-8", "replace"))
    return f"\n[… {missing} bytes are left out …]\n".join(parts), True


def _short(text: str, limit: int) -> str:
    data = text.encode("utf-8", "replace")
    return kept(data, len(data), None, limit)[0]


def _end(result: SandboxResult) -> dict[str, Any]:
    signal, code = result.signal_name, result.exit_code
    return {"verdict": str(result.verdict), "exit_code": code, "signal": signal}


def _ran(result: SandboxResult, limit: int) -> dict[str, Any]:
    out, cut_out = kept(result.stdout_bytes, result.stdout_total_bytes, result.stdout_gap, limit)
    err, cut_err = kept(result.stderr_bytes, result.stderr_total_bytes, result.stderr_gap, limit)
    return {
        **_end(result),
        "stdout": out,
        "stderr": err,
        "stdout_bytes": result.stdout_total_bytes,
        "stderr_bytes": result.stderr_total_bytes,
        "truncated": cut_out or cut_err,
        "seconds": round(result.duration_seconds, 3),
    }


def of_code(result: SandboxResult, limit: int) -> CallToolResult:
    """A result with its pictures."""
    value, error = result.value, result.error
    shown = result.displays[:_MOST_DISPLAYS]
    pictures = [one for display in (*shown, value) for one in _pictures(display)]
    model = RanCode(
        **_ran(result, limit),
        value=None if value is None else _short(value.text, limit),
        displays=[_short(one.text, limit // max(1, len(shown))) for one in shown],
        displays_truncated=result.displays_truncated or len(shown) < len(result.displays),
        pictures=len(pictures),
        error=None if error is None else _error(error, limit),
    )
    return as_result(model, *pictures)


def _error(error: CodeError, limit: int) -> Error:
    return Error(
        name=_short(error.name, 1000),
        message=_short(error.message, limit),
        traceback=_short(error.traceback, limit),
    )


def _pictures(display: Display | None) -> list[ImageContent]:
    for mime in _PICTURES:
        data = None if display is None else display.data.get(mime)
        if isinstance(data, bytes):
            return [ImageContent(data=base64.b64encode(data).decode(), mime_type=mime)]
    return []


def as_result(model: BaseModel, *more: ContentBlock) -> CallToolResult:
    """Structured, and the same as text for clients that know no structure."""
    text = TextContent(text=model.model_dump_json())
    return CallToolResult(content=[text, *more], structured_content=model.model_dump(mode="json"))


def read(data: bytes, offset: int, limit: int) -> Read:
    """A part of a file, of which ``data`` may hold one byte more."""
    more, data = len(data) > limit, data[:limit]
    for cut in range(4 if more else 1):  # a character may end beyond
        part = data[: len(data) - cut]
        if cut and not part:
            break
        try:
            return Read(text=part.decode("utf-8"), next_offset=offset + len(part), more=more)
        except UnicodeDecodeError:
            continue
    return Read(base64=base64.b64encode(data).decode(), next_offset=offset + len(data), more=more)
