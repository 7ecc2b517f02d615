"""The entry point of the provider ``replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.plugin import JudgedExecution, SandboxResult, hookimpl

if TYPE_CHECKING:
    from stockade.wall import Wall

STOCKADE_API_VERSION = 1


@hookimpl
def stockade_wall() -> type[Wall]:
    from stockade_replay.wall import ReplayWall

    return ReplayWall


@hookimpl
def stockade_execution(execution: JudgedExecution) -> SandboxResult | None:
    """In place of the sandbox: a recorded verdict, such as a timeout, is no wall's to give."""
    from stockade_replay.wall import answer

    return answer(execution)
