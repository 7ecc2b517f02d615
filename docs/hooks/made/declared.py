"""What the code declares beside its names: comments that begin with ``#:``, values, defaults."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockade.values.options import render

ROOT = Path(__file__).parents[3]


def show_checkout() -> None:
    """Let the walls of this checkout be imported, whatever is installed."""
    sources = [ROOT / "supervisor" / "python", *sorted((ROOT / "plugins").glob("*/src"))]
    sys.path += [str(path) for path in sources if str(path) not in sys.path]


def comments(cls: type) -> dict[str, str]:
    """What the ``#:`` comments say of each name that a class assigns, above it or beside it."""
    lines, _ = inspect.getsourcelines(cls)
    tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)))
    body = tree.body[0]
    assert isinstance(body, ast.ClassDef)
    text = inspect.cleandoc("\n" + "".join(lines)).splitlines()
    found = {}
    for node in body.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name):
            found[target.id] = _above(text, node.lineno - 2) or _beside(text, node)
    return found


def _above(text: list[str], at: int) -> str:
    said: list[str] = []
    while at >= 0 and text[at].lstrip().startswith("#:"):
        said.insert(0, text[at].lstrip()[2:].strip())
        at -= 1
    return " ".join(said)


def _beside(text: list[str], node: ast.stmt) -> str:
    for line in text[node.lineno - 1 : node.end_lineno]:
        _, mark, said = line.partition("  #: ")
        if mark:
            return said.strip()
    return ""


def written(value: Any) -> str:
    """A value as people write it in a provider string; nothing for an empty one."""
    if isinstance(value, Mapping) and not value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return render(value)


def cell(text: str) -> str:
    """Text in a table's cell: on one line, marks as Markdown has them."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    return lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows]


def code(text: str) -> str:
    """As code, or nothing for nothing."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def paragraphs(value: Any) -> list[str]:
    """A docstring's, each on one line."""
    said = inspect.getdoc(value) or ""
    return [" ".join(part.split()) for part in said.split("\n\n")]
