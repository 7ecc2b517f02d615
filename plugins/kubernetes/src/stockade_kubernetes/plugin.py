"""The entry point: imports nothing heavy, so that selecting another wall costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.plugin import hookimpl

if TYPE_CHECKING:
    from stockade.wall import Wall

STOCKADE_API_VERSION = 1


@hookimpl
def stockade_wall() -> type[Wall]:
    from stockade_kubernetes.wall import KubernetesWall

    return KubernetesWall
