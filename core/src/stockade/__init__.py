"""stockade: run code that you don't trust, behind any wall.

    import stockade

    with stockade.open("landlock", agent_id="researcher") as session:
        print(session.run(["echo", "hi"]).stdout)

A string names a wall, the wall is found among the installed plug-ins, and code
runs behind it in the same way and with the same guarantees. The names below
are all that most programs need; ``stockade.aio`` has the awaitable form,
``stockade.plugin`` and ``stockade.wall`` are for authors of walls.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from stockade import errors
from stockade.errors import *  # noqa: F403

if TYPE_CHECKING:
    from stockade import aio
    from stockade.config import Mount, OutputKeep, OutputPolicy, SandboxConfig, Secret
    from stockade.executions._execution import Execution
    from stockade.executions._output import OutputReader
    from stockade.executions._terminals import TerminalExecution
    from stockade.files._snapshots import Snapshot
    from stockade.ledger._sqlite import SqliteLedger
    from stockade.policies._listing import inspect_plugins
    from stockade.policies.audit import AuditLog
    from stockade.results import (
        Chunk,
        CodeError,
        Display,
        ExecutionHandle,
        ExecutionStatus,
        SandboxResult,
        SessionHandle,
        SessionStatus,
        Stream,
        Verdict,
    )
    from stockade.session import Session
    from stockade.session import open_session as open
    from stockade.session._attaching import attach
    from stockade.session._pool import Pool
    from stockade.sessions._collecting import collect
    from stockade.sessions._configuring import configure, end_on_sigterm
    from stockade.sessions._providers import (
        inspect_providers,
        installed_providers,
        provider,
        suitable_providers,
    )
    from stockade.sessions._runtime import Runtime, default_runtime
    from stockade.sessions._settings import Settings
    from stockade.trait import SandboxProvider
    from stockade.values.pipe import PIPE

__version__ = "0.1.0"

# Quiet unless the program listens: without a handler Python prints warnings to standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())

#: Everything but the errors is loaded when it is first used, so that a program which imports
#: stockade and opens no session doesn't pay for it: attrs builds every class at its import.
_LATE = {
    "PIPE": ("stockade.values.pipe", "PIPE"),
    "AuditLog": ("stockade.policies.audit", "AuditLog"),
    "Chunk": ("stockade.results", "Chunk"),
    "CodeError": ("stockade.results", "CodeError"),
    "Display": ("stockade.results", "Display"),
    "Execution": ("stockade.executions._execution", "Execution"),
    "ExecutionHandle": ("stockade.results", "ExecutionHandle"),
    "ExecutionStatus": ("stockade.results", "ExecutionStatus"),
    "Mount": ("stockade.config", "Mount"),
    "OutputKeep": ("stockade.config", "OutputKeep"),
    "OutputPolicy": ("stockade.config", "OutputPolicy"),
    "OutputReader": ("stockade.executions._output", "OutputReader"),
    "Pool": ("stockade.session._pool", "Pool"),
    "Runtime": ("stockade.sessions._runtime", "Runtime"),
    "SandboxConfig": ("stockade.config", "SandboxConfig"),
    "SandboxProvider": ("stockade.trait", "SandboxProvider"),
    "SandboxResult": ("stockade.results", "SandboxResult"),
    "Secret": ("stockade.config", "Secret"),
    "Session": ("stockade.session", "Session"),
    "SessionHandle": ("stockade.results", "SessionHandle"),
    "SessionStatus": ("stockade.results", "SessionStatus"),
    "Settings": ("stockade.sessions._settings", "Settings"),
    "Snapshot": ("stockade.files._snapshots", "Snapshot"),
    "SqliteLedger": ("stockade.ledger._sqlite", "SqliteLedger"),
    "Stream": ("stockade.results", "Stream"),
    "TerminalExecution": ("stockade.executions._terminals", "TerminalExecution"),
    "Verdict": ("stockade.results", "Verdict"),
    "aio": ("stockade.aio", None),
    "attach": ("stockade.session._attaching", "attach"),
    "collect": ("stockade.sessions._collecting", "collect"),
    "configure": ("stockade.sessions._configuring", "configure"),
    "default_runtime": ("stockade.sessions._runtime", "default_runtime"),
    "end_on_sigterm": ("stockade.sessions._configuring", "end_on_sigterm"),
    "inspect_plugins": ("stockade.policies._listing", "inspect_plugins"),
    "inspect_providers": ("stockade.sessions._providers", "inspect_providers"),
    "installed_providers": ("stockade.sessions._providers", "installed_providers"),
    "open": ("stockade.session", "open_session"),
    "provider": ("stockade.sessions._providers", "provider"),
    "suitable_providers": ("stockade.sessions._providers", "suitable_providers"),
}

__all__ = [
    "PIPE",
    "AuditLog",
    "Chunk",
    "CodeError",
    "Display",
    "Execution",
    "ExecutionHandle",
    "ExecutionStatus",
    "Mount",
    "OutputKeep",
    "OutputPolicy",
    "OutputReader",
    "Pool",
    "Runtime",
    "SandboxConfig",
    "SandboxProvider",
    "SandboxResult",
    "Secret",
    "Session",
    "SessionHandle",
    "SessionStatus",
    "Settings",
    "Snapshot",
    "SqliteLedger",
    "Stream",
    "TerminalExecution",
    "Verdict",
    "aio",
    "attach",
    "collect",
    "configure",
    "default_runtime",
    "end_on_sigterm",
    "inspect_plugins",
    "inspect_providers",
    "installed_providers",
    "open",
    "provider",
    "suitable_providers",
    *errors.__all__,
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _LATE:
        raise AttributeError(f"module 'stockade' has no attribute {name!r}")
    module, attribute = _LATE[name]
    loaded = importlib.import_module(module)
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
