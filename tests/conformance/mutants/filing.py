"""Mutants of F: file calls that wait, lose and misplace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from conformance.mutants.executing import _on
from conformance.mutants.isolating import LosesTheEndOfInput
from conformance.mutants.selecting import _core
from stockade._entries import FILE, FileInfo
from stockade.files import _scripts as scripts
from stockade.files import _shell as shell
from stockade.files import _tar as tar
from stockade.files._shell import ShellFiles

_list, _read, _by_find = ShellFiles.list, ShellFiles.read, shell._by_find

#: Without the look at what is there, before it is opened.
_OPENS_ALL = scripts.READ.replace('\nkind "$1"\n', "\n")
#: The size is found by reading.
_READS_ALL = scripts.READ.replace('\n[ -r "$1" ]', '\ncat "$1" | wc -c > /dev/null\n[ -r "$1" ]')
_READS_TREES = scripts.GET.replace("exec tar -cf - .", "tar -cf - . | cat > /dev/null").replace(
    '\n[ -z "$(find', '\n: [ -z "$(find'
)
assert len({_OPENS_ALL, _READS_ALL, scripts.READ}) == 3


def _lists_all(self: ShellFiles, path: str, call: Any, *, max_entries: int) -> list[FileInfo]:
    return _list(self, path, call, max_entries=1 << 40)


def _asks_for_each(self: ShellFiles, path: str, call: Any, *, max_entries: int) -> list[FileInfo]:
    found = _list(self, path, call, max_entries=max_entries)
    for info in found[:3]:
        self.stat(f"{path}/{info.name}", call, follow_links=False)
    return found


def _without_owners(fields: list[str]) -> Iterator[FileInfo]:
    for info in _by_find(fields):
        yield attrs.evolve(info, uid=None)


def _copies_alone(self: ShellFiles, source: str, destination: str, call: Any) -> None:
    self.copy(source, destination, call)


def _reads_from_the_start(self: ShellFiles, path: str, call: Any, **options: Any) -> bytes:
    return _read(self, path, call, **{**options, "offset": 0})


FILING = [
    _core(
        "F2_what_is_no_regular_file_is_refused_at_once",
        "opens-all",
        "stockade.files._scripts.READ",
        _OPENS_ALL,
        factor=0.1,
    ),
    _core(
        "F2_a_file_of_holes_is_refused_at_once",
        "reads-all",
        "stockade.files._scripts.READ",
        _READS_ALL,
        factor=0.1,
    ),
    _core(
        "F2_a_call_has_its_time",
        "has-all-time",
        "stockade.files._calls._seconds",
        lambda *_: None,
        factor=0.1,
    ),
    _core(
        "F2_a_call_can_be_cancelled",
        "goes-on",
        "stockade.files._calls.Scope.cancel",
        lambda _: None,
        factor=0.1,
    ),
    _core(
        "F4_a_listing_is_bounded",
        "lists-all",
        "stockade.files._shell.ShellFiles.list",
        _lists_all,
    ),
    _core(
        "F4_a_listing_of_thousands_is_one_program",
        "asks-for-each",
        "stockade.files._shell.ShellFiles.list",
        _asks_for_each,
    ),
    _core(
        "F4_modes_times_and_hard_links_are_kept",
        "two-files",
        "stockade.files._tar._KINDS",
        {**tar._KINDS, b"1": FILE},
    ),
    _core(
        "F4_modes_times_and_hard_links_are_kept",
        "modes-and-times-of-its-own",
        "stockade.files._host._settle",
        lambda *_: None,
    ),
    _core(
        "F4_what_could_not_be_brought_is_reported",
        "reports-nothing",
        "stockade.files._api._or_raised",
        lambda *_: [],
    ),
    _core(
        "F5_mode_owner_size_time_and_target",
        "knows-no-owner",
        "stockade.files._shell._by_find",
        _without_owners,
    ),
    _core(
        "F5_move_and_copy",
        "copies-alone",
        "stockade.files._shell.ShellFiles.move",
        _copies_alone,
    ),
    _core(
        "F5_parts_of_files",
        "reads-from-the-start",
        "stockade.files._shell.ShellFiles.read",
        _reads_from_the_start,
    ),
    _on("F5_a_file_of_any_size_in_pieces", LosesTheEndOfInput),
    _core(
        "G1_a_snapshot_of_holes_is_refused_at_once",
        "reads-all",
        "stockade.files._scripts.GET",
        _READS_TREES,
        factor=0.1,
        snapshot="native",
        read_only_root="native",
    ),
]
