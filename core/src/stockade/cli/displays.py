"""What code showed beside its output, for people and as JSON: values, pictures, errors (D20)."""

from __future__ import annotations

import base64
import os
import tempfile
from typing import TYPE_CHECKING, Any

from stockade.cli.console import say

if TYPE_CHECKING:
    from stockade.results import Display, SandboxResult

__all__ = ["as_json", "show"]

#: Pictures, and how their files' names end.
_PICTURES = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
    "application/pdf": "pdf",
}


def show(result: SandboxResult, folder: str | None) -> None:
    """Print each thing's text, and of a picture the name of its file, which is written into
    ``folder`` or a new temporary one. Raises OSError."""
    shown = [*result.displays, *([result.value] if result.value else [])]
    for one in shown:
        pictures = [mime for mime in _PICTURES if mime in one.data]
        if pictures and folder is None:
            folder = tempfile.mkdtemp(prefix="stockade-")
        if one.text:
            say(one.text)
        for mime in pictures[:1]:
            say(_written(folder or "", _PICTURES[mime], one.data[mime]))
    if result.displays_truncated:
        say("stockade: some of what was shown was dropped (--output-limit)", err=True)


def _written(folder: str, ending: str, data: str | bytes) -> str:
    """Write a file that was not there; its path."""
    os.makedirs(folder, exist_ok=True)
    number = 1
    while True:
        path = os.path.join(folder, f"picture-{number}.{ending}")
        try:
            with open(path, "xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
        except FileExistsError:
            number += 1
        else:
            return path


def as_json(result: SandboxResult) -> dict[str, Any]:
    """What a named interpreter gave: text as text, everything else in base64."""
    error = result.error
    return {
        "value": _forms(result.value) if result.value else None,
        "displays": [_forms(one) for one in result.displays],
        "displays_truncated": result.displays_truncated,
        "error": error
        and {"name": error.name, "message": error.message, "traceback": error.traceback},
    }


def _forms(one: Display) -> dict[str, str]:
    return {
        mime: data if isinstance(data, str) else base64.b64encode(data).decode()
        for mime, data in one.data.items()
    }
