"""envd's ``/files``: contents in and out, in pieces of bounded size."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from stockade_server.bodies import pieces_of
from stockade_server.errors import Refused, refusal
from stockade_server.metadata import metadata_of
from stockade_server.sandbox import Sandbox
from stockade_server.streams import Streamed, while_connected

__all__ = ["download", "upload"]

#: Of one write; a larger file is written piece by piece.
_PIECE_BYTES = 1 << 20
_MOST_FILES = 256  #: in one upload


async def download(request: Request, sandbox: Sandbox, idle_seconds: float) -> Response:
    """``GET /files?path=…``: the content of one file."""
    path = sandbox.filesystem.path_of(request.query_params.get("path", ""))
    files = sandbox.session.files
    info = await while_connected(request, files.stat(path, follow_links=True))
    if info.is_dir:
        raise Refused(400, f"{path} is a folder; list it")
    pieces = _pieces(sandbox, path)
    first = await while_connected(request, _next(pieces))
    name = quote(posixpath.basename(path))
    return Streamed(
        _all(first, pieces, sandbox),
        media_type="application/octet-stream",
        idle_seconds=idle_seconds,
        headers={
            "content-disposition": f"attachment; filename*=UTF-8''{name}",
            "x-content-type-options": "nosniff",
        },
    )


async def _pieces(sandbox: Sandbox, path: str) -> AsyncIterator[bytes]:
    """Small ones, since each reader that is slow holds one, and there may be many."""
    offset = 0
    while piece := await sandbox.session.files.read(
        path, offset=offset, length=_PIECE_BYTES, max_bytes=_PIECE_BYTES
    ):
        yield piece
        offset += len(piece)


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    """The first piece, so that an error is an answer of its own; empty at the end."""
    async for piece in pieces:
        return piece
    return b""


async def _all(
    first: bytes, rest: AsyncIterator[bytes], sandbox: Sandbox
) -> AsyncGenerator[bytes, None]:
    if not first:
        return
    yield first
    try:
        async for piece in rest:
            yield piece
    except OSError as error:  # the connection breaks off: the caller sees that it is not whole
        raise refusal(error, sandbox.sandbox_id) from None


async def upload(request: Request, sandbox: Sandbox, most: int) -> Response:
    """``POST /files``: one file as it is, or several as multipart."""
    metadata = metadata_of(request.headers.items())
    path = request.query_params.get("path")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/octet-stream":
        written = [await _write(sandbox, path or "", pieces_of(request, most), metadata)]
    elif kind == "multipart/form-data":
        async with sandbox.forms:
            written = await _write_parts(request, sandbox, path, metadata)
    else:
        raise Refused(415, "send application/octet-stream or multipart/form-data")
    return JSONResponse(written)


async def _write_parts(
    request: Request, sandbox: Sandbox, path: str | None, metadata: dict[str, str]
) -> list[dict[str, Any]]:
    try:
        form = await request.form(max_files=_MOST_FILES, max_fields=16)
    except ClientDisconnect:
        raise Refused(400, "the client went away") from None
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not files:
            raise Refused(400, "the form has no file")
        if path and len(files) > 1:
            raise Refused(400, "a path names one file, and the form has more; leave it out")
        return [
            await _write(sandbox, path or part.filename or "", _read(part), metadata)
            for part in files
        ]
    finally:
        await form.close()


async def _read(part: UploadFile) -> AsyncIterator[bytes]:
    while piece := await part.read(_PIECE_BYTES):
        yield piece


async def _write(
    sandbox: Sandbox, given: str, pieces: AsyncIterator[bytes], metadata: dict[str, str]
) -> dict[str, Any]:
    """Write pieces one after the other: memory is bounded, whatever is sent."""
    path = sandbox.filesystem.path_of(given)
    files, held, begun = sandbox.session.files, bytearray(), False
    async for piece in pieces:
        held += piece
        if len(held) >= _PIECE_BYTES:
            await files.write(path, bytes(held), append=begun)
            begun = True
            held.clear()
    if held or not begun:
        await files.write(path, bytes(held), append=begun)
    sandbox.filesystem.metadata.set(path, metadata)
    entry: dict[str, Any] = {"name": posixpath.basename(path), "path": path, "type": "file"}
    return {**entry, "metadata": metadata} if metadata else entry
