"""The executions that run in a session (D18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.errors import ExecutionNotFoundError
from stockade.executions._execution import Execution

if TYPE_CHECKING:
    from stockade.executions._home import Home

__all__ = ["find", "running"]


def running(home: Home) -> tuple[Execution, ...]:
    """All of them, in the order in which they were started. Raises ForkedSessionError."""
    home.here()
    return tuple(one for one in home.counted() if isinstance(one, Execution))


def find(home: Home, execution_id: str) -> Execution:
    """The one of that id. Raises ExecutionNotFoundError, ForkedSessionError."""
    for execution in running(home):
        if execution.execution_id == execution_id:
            return execution
    raise ExecutionNotFoundError(
        f"no execution {execution_id!r:.80} runs in session {home.session_id}; those that run are "
        "in session.executions(), and the caller that started an execution has its result."
    )
