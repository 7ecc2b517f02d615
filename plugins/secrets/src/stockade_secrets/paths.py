"""Which paths a secret is for: only such as every server reads alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from stockade.toolkit.egress import RefusedError

__all__ = ["matches"]


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns, in which ``*`` stands for anything, is this path's.

    Raises RefusedError for a path that one server takes for itself and another resolves:
    ``..`` in any writing, empty parts, encoded slashes, encoding twice.
    """
    plain = unquote(path, errors="replace")
    if "%" in plain or "\\" in plain or "%2f" in path.lower() or not plain.isprintable():
        raise _unclear(path)
    parts = [part.partition(";")[0] for part in plain.split("/")]
    if any(part in (".", "..") for part in parts) or "" in parts[1:-1]:
        raise _unclear(path)
    return any(_matcher(pattern).match(plain) for pattern in patterns)


def _unclear(path: str) -> RefusedError:
    return RefusedError(
        f"the path {path!r:.80} can be read in two ways, and a secret is for some paths alone"
    )


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))) + r"\Z", re.DOTALL)
