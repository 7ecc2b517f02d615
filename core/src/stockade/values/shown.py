"""Untrusted text, made fit for a terminal and a log.

File names, a program's words in an error, a label, a plug-in's summary: any of them may
hold escape sequences that move a cursor, colour a screen or turn text around. What a
person reads passes through here; data for programs (results, JSON) stays as it is.
"""

from __future__ import annotations

__all__ = ["named", "shown"]

_KEPT = frozenset("\n\t")


def shown(text: str) -> str:
    """``text`` with every character that does not print as an escape, such as ``\\x1b``.

    Line ends and tabs stay. Control characters, those that turn the direction of text,
    and halves of surrogates do not print.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _KEPT else char.encode("unicode_escape").decode()
        for char in text
    )


def named(error: BaseException) -> str:
    """An error's kind and words, ``KeyError: 'x'``; its kind alone where it has none."""
    words = str(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
