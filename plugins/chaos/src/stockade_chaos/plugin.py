"""The entry point of the provider ``chaos``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.plugin import hookimpl

if TYPE_CHECKING:
    from stockade.wall import Wall

STOCKADE_API_VERSION = 1


@hookimpl
def stockade_wall() -> type[Wall]:
    from stockade_chaos.wall import ChaosWall

    return ChaosWall
