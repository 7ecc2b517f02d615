"""A mapping that nobody changes, and that pickles, copies and compares (B1, B5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

__all__ = ["FrozenMap", "MaskedMap"]

_T = TypeVar("_T")


class FrozenMap(Mapping[str, _T]):
    """Equal to any mapping with the same items; what it was made of is copied."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, _T]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> _T:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __reduce__(self) -> tuple[type[FrozenMap[_T]], tuple[dict[str, _T]]]:
        return type(self), (self._items,)

    def __repr__(self) -> str:
        return repr(self._items)


class MaskedMap(FrozenMap[_T]):
    """One whose values may be secrets: its ``repr`` shows names alone (B4)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: ***" for name in self) + "}"
