"""Mutants of F6: changes that get lost, come unasked, or end in silence."""

from __future__ import annotations

from typing import Any

from conformance.mutants.selecting import _core
from stockade.files import FileEvent, Watch
from stockade.files._watching import look_for_changes

__all__ = ["WATCHING"]

_receive = Watch.receive


def _only_new_names(self: Watch, event: FileEvent) -> None:
    if event.kind != "modified":
        _receive(self, event)


def _all_below(backend: Any, top: str, watch: Watch, call: Any, *, recursive: bool) -> None:
    look_for_changes(backend, top, watch, call, recursive=True)


def _drops_in_silence(self: Watch, event: FileEvent) -> None:
    if len(self._events) < 100:
        _receive(self, event)


def _never_raises(self: Watch, error: BaseException | None) -> None:
    with self._changed:
        self._end(None)


WATCHING = [
    _core(
        "F6_changes_are_reported",
        "only-new-names",
        "stockade.files._watching.Watch.receive",
        _only_new_names,
        factor=0.2,
    ),
    _core(
        "F6_folders_below_are_watched_where_asked_for",
        "all-below",
        "stockade.files._api.look_for_changes",
        _all_below,
    ),
    _core(
        "F6_what_does_not_fit_is_marked",
        "drops-in-silence",
        "stockade.files._watching.Watch.receive",
        _drops_in_silence,
    ),
    _core(
        "F6_a_watch_has_ends",
        "ends-in-silence",
        "stockade.files._watching.Watch.end",
        _never_raises,
    ),
    _core(
        "F6_a_wall_that_cannot_watch_says_so",
        "looks-all-the-same",
        "stockade.capabilities.Capabilities.require",
        lambda *_: None,
        watch="unsupported",
    ),
]
