"""Named interpreters from outside: interrupting what one runs, and starting it anew (D20)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from stockade.capabilities import Feature
from stockade.errors import SessionNotFoundError, StockadeError, WallError
from stockade.executions._execution import Execution
from stockade.executions._forms import check_state
from stockade.system.threads import bounded
from stockade.values.shown import named

if TYPE_CHECKING:
    from stockade.executions._home import Home
    from stockade.system.threads import Workers
    from stockade.wall import Wall

__all__ = ["interrupt", "restart"]

#: How long a wall may take to end an interpreter.
_RESTART_SECONDS = 10.0


def interrupt(wall: Wall, home: Home, state: str, language: str) -> bool:
    """Interrupt what the interpreter runs now; whether there was anything."""
    home.here()
    check_state(home, wall, state, language)
    wall.capabilities.require(Feature.NOTEBOOK, home.provider, "cancel() the execution.")
    found = _of(home, state, language)
    for execution in found:
        execution.interrupt()
    return bool(found)


def restart(workers: Workers, wall: Wall, home: Home, state: str, language: str) -> None:
    """End the interpreter and what it runs. Raises WallError if the wall fails at it."""
    home.here()
    check_state(home, wall, state, language)
    for execution in _of(home, state, language):
        execution.cancel()
        execution.future.exception()  # its end, whatever it is
    sandbox = home.sandbox
    if sandbox is None:
        raise SessionNotFoundError(home.session_id)
    try:
        bounded(workers, functools.partial(sandbox.restart, state, language), _RESTART_SECONDS)
    except StockadeError:
        raise
    except Exception as error:
        raise WallError(
            f"{home.provider} failed at ending the interpreter {state!r}: {named(error)}. "
            "Destroy the session."
        ) from error


def _of(home: Home, state: str, language: str) -> list[Execution]:
    return [
        one
        for one in home.counted()
        if isinstance(one, Execution) and one.interpreter == (language, state)
    ]
