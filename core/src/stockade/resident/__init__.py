"""A resident shell in the sandbox: executions for the price of a fork.

For every wall that can hold a process open. The wall starts :func:`supervisor_argv`
in its sandbox and hands over channels to it; :class:`ResidentSandbox` does the
rest of the ``Sandbox`` interface: executions at the same time, deadlines down to
the last descendant, verdicts, warm Python and named interpreters.
"""

from __future__ import annotations

from stockade.resident.channel import Channel, PipeChannel
from stockade.resident.lane import Ended, Lane, LaneLostError
from stockade.resident.running import Death
from stockade.resident.sandbox import ResidentSandbox
from stockade.resident.script import NEEDS, supervisor, supervisor_argv, supervisor_by_input

__all__ = [
    "NEEDS",
    "Channel",
    "Death",
    "Ended",
    "Lane",
    "LaneLostError",
    "PipeChannel",
    "ResidentSandbox",
    "supervisor",
    "supervisor_argv",
    "supervisor_by_input",
]
