"""What code shows beside its output: a value, a picture, an error (D20)."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from stockade.values.frozen import FrozenMap

__all__ = ["CodeError", "Display", "is_text"]

#: Types that are text, beside those that begin with ``text/`` or end with ``+xml`` or ``+json``.
_TEXTS = frozenset({"application/json", "application/javascript", "application/xml"})


def is_text(mime: str) -> bool:
    """Whether content of this type is text; otherwise it is bytes."""
    return mime in _TEXTS or mime.startswith("text/") or mime.endswith(("+xml", "+json"))


def _frozen(data: Mapping[str, str | bytes]) -> Mapping[str, str | bytes]:
    return FrozenMap(data)


@attrs.frozen
class Display:
    """One thing that code has shown, in each form that it has.

    What is in it was written behind a wall: show HTML, SVG and JavaScript where they can do no
    harm alone, and a text without its escape sequences.
    """

    #: Type, such as ``image/png``, to content: text for what is text, else bytes.
    data: Mapping[str, str | bytes] = attrs.field(
        converter=_frozen, repr=lambda data: f"<{', '.join(data)}>"
    )

    @property
    def text(self) -> str:
        """The plain text; empty if there is none."""
        found = self.data.get("text/plain", "")
        return found if isinstance(found, str) else ""

    @property
    def html(self) -> str | None:
        """The ``text/html`` form, as it came from inside; None if there is none."""
        found = self.data.get("text/html")
        return found if isinstance(found, str) else None

    @property
    def png(self) -> bytes | None:
        """The ``image/png`` form's bytes, which nobody has checked; None if there is none."""
        found = self.data.get("image/png")
        return found if isinstance(found, bytes) else None


@attrs.frozen
class CodeError:
    """What nobody caught: the exception's name, its message and its traceback."""

    name: str  #: the exception's class, such as ``ValueError``
    message: str  #: the exception as text; it may be empty and may hold several lines
    #: As the interpreter shows it, without colours; it was written behind a wall.
    traceback: str = attrs.field(repr=False)
