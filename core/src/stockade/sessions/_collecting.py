"""Collecting what dead processes left, by the default runtime or another (``stockade.collect``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from stockade.sessions._runtime import Runtime, default_runtime

if TYPE_CHECKING:
    from stockade.ledger._collecting import Collected

__all__ = ["collect"]


def collect(
    *,
    runtime: Runtime | None = None,
    strings: Iterable[str] = (),
    force: Sequence[str] = (),
    dry_run: bool = False,
) -> Collected:
    """Remove what has no living owner or is past its lifetime; say what was done.

    Looks into the runtime's ledger, at each place where a record says that its sandbox was
    made (C9), and behind every installed wall where options and environment lead now.
    ``strings`` are provider strings of walls to look at beside them, such as an engine
    elsewhere (``docker?engine=ssh://host``); of alternatives each one is looked at.
    ``force`` are ids of sessions to remove even if their owners live. With ``dry_run`` nothing is
    touched. Does not raise for what a wall or the ledger fails at: it stands in the result.
    """
    return (runtime or default_runtime()).collector().collect(strings, force, dry_run=dry_run)
