"""What executions and terminals need of their sandbox, and how the end of a program is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from stockade.errors import SandboxLostError
from stockade.toolkit.supervised.ends import End, LinkLost
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.wall import Exit

if TYPE_CHECKING:
    from stockade.toolkit.supervised.link import Link

__all__ = ["KILLED", "Holder", "exit_of", "exit_of_lost"]

#: The signal, by Linux' number, which is the sandbox's.
KILLED = 9


class Holder(Protocol):
    """The sandbox: SupervisedSandbox, which says what each of these does."""

    resizes_silently: bool

    @property
    def link(self) -> Link: ...

    @property
    def died_of_memory(self) -> bool: ...

    def kill_execution(self, execution: LinkExecution) -> None: ...

    def out_of_memory(self, execution: LinkExecution, end: End) -> bool: ...

    def done(self, execution: LinkExecution) -> None: ...

    def left(self, execution: LinkExecution) -> float | None: ...

    def loss(self, error: BaseException) -> SandboxLostError: ...


def exit_of(holder: Holder, execution: LinkExecution, end: End) -> Exit:
    """How a program ended."""
    if holder.out_of_memory(execution, end):
        return Exit(signal=KILLED, out_of_memory=True)
    code = os.waitstatus_to_exitcode(end.status)
    return Exit(signal=-code) if code < 0 else Exit(code=code)


def exit_of_lost(holder: Holder, error: LinkLost) -> Exit:
    """How a program ended that went with its sandbox, where the sandbox's memory limit was the
    reason (E5). Raises SandboxLostError if it was not."""
    loss = holder.loss(error)
    if holder.died_of_memory:
        return Exit(signal=KILLED, out_of_memory=True)
    raise loss from error
