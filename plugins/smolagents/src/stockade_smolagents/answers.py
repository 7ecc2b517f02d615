"""Values that were made behind a wall, taken as data: JSON, and pictures that are PNG or JPEG."""

from __future__ import annotations

import base64
import binascii
import json
import re
from io import BytesIO
from typing import Any

import PIL.Image
from smolagents.serialization import SafeSerializer, SerializationError

from stockade.results import Display

__all__ = ["BadAnswer", "answer_of", "value_of"]

_PNG = b"\x89PNG\r\n\x1a\n"
#: Arrays of numbers, truth and short texts: one element of another type may be of any size, and
#: may be an object.
_DTYPE = re.compile(r"(u?int|float|complex)\d{1,3}|bool|<U\d{1,5}")


class BadAnswer(ValueError):
    """What came is no value that may be taken; the text says what is wrong."""


def answer_of(text: str) -> Any:
    """The value of a serialized answer. Raises BadAnswer."""
    if not text.startswith(SafeSerializer.SAFE_PREFIX):
        raise BadAnswer("the answer is not in smolagents' safe form, and no other is read")
    try:
        tree = json.loads(text[len(SafeSerializer.SAFE_PREFIX) :])
        _check(tree)
        return SafeSerializer.from_json_safe(tree)
    except BadAnswer:
        raise
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise BadAnswer(f"the answer cannot be read: {type(error).__name__}") from error
    except SerializationError as error:
        raise BadAnswer(str(error)) from error


def _check(tree: Any) -> None:
    """Refuse what would have more than a value made of it here."""
    if isinstance(tree, list):
        for one in tree:
            _check(one)
    if not isinstance(tree, dict):
        return
    kind = tree.get("__type__")
    if kind == "PIL.Image":
        _check_picture(tree.get("data"))
        return
    if kind == "ndarray" and not _DTYPE.fullmatch(str(tree.get("dtype"))):
        raise BadAnswer(f"the answer has an array of {str(tree.get('dtype'))!r:.40}")
    for one in tree.values():
        _check(one)


def _check_picture(data: Any) -> None:
    """Of all that PIL opens, some by programs of this machine, only what was written inside."""
    try:
        begin = base64.b64decode(str(data)[:16], validate=True)
    except binascii.Error:
        begin = b""
    if not begin.startswith(_PNG):
        raise BadAnswer("the answer has a picture that is no PNG")


def value_of(display: Display) -> Any:
    """What a step's last value, or what it displayed, is for an agent: a picture, or text."""
    for mime, format in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
        data = display.data.get(mime)
        if isinstance(data, bytes):
            try:
                return PIL.Image.open(BytesIO(data), formats=[format])
            except (OSError, ValueError) as error:
                raise BadAnswer(f"the picture cannot be read: {type(error).__name__}") from error
    return display.text
