"""Every error: what it means, whether trying again may help, and what to do."""

from __future__ import annotations

import inspect

from made.declared import code, paragraphs, table
from stockade import errors
from stockade.errors import StockadeError

_HEAD = """\
# Errors

A command that ran gives a result, whatever its exit code. A sandbox that failed raises one of
these. All are `stockade.StockadeError`, and each names in its message what to do next. If
`retryable` is true, the same call may succeed later with nothing changed.
"""
#: Of a class's docstring: what stands before what to do.
WHAT_TO_DO = "What to do: "


def page() -> str:
    """The whole page."""
    lines = [_HEAD, *table(("error", "retryable", "also a"), rows()), ""]
    for kind in kinds():
        said = paragraphs(kind)
        lines += [f"## {kind.__name__}", "", *_spaced(said)]
    return "\n".join(lines).replace("``", "`")


def _spaced(said: list[str]) -> list[str]:
    lines = []
    for paragraph in said:
        means, mark, rest = paragraph.partition(WHAT_TO_DO)
        lines += [means.strip(), "", f"**What to do:** {rest}", ""] if mark else [paragraph, ""]
    return lines


def kinds() -> list[type[StockadeError]]:
    """The public errors, in the order of their source, which goes by subject."""
    public = [getattr(errors, name) for name in errors.__all__]
    return sorted(public, key=lambda kind: inspect.getsourcelines(kind)[1])


def rows() -> list[tuple[str, ...]]:
    """Name, whether to try again, and which of Python's own errors it is as well."""
    return [
        (
            f"[{kind.__name__}](#{kind.__name__.lower()})",
            retryable(kind),
            ", ".join(code(base.__name__) for base in builtin(kind)),
        )
        for kind in kinds()
    ]


def retryable(kind: type[StockadeError]) -> str:
    """Yes, no, or that each error of the class says so for itself."""
    if "retryable" in getattr(kind.__init__, "__annotations__", {}):
        return "each says"
    return "yes" if kind.retryable else "no"


def builtin(kind: type[StockadeError]) -> list[type[BaseException]]:
    """The errors of Python's that ``except`` catches it by."""
    return [
        base for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception
    ]
