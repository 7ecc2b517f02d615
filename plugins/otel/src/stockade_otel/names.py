"""The names of attributes, and what of an event goes into them.

Nothing that a program, its input or its output could have put there: ids, words of
stockade's own, numbers.
"""

from __future__ import annotations

from opentelemetry.util.types import AttributeValue

from stockade.plugin import Event

__all__ = ["AGENT", "ERROR", "EXECUTION", "PROVIDER", "SCOPE", "SESSION", "described", "version"]

SCOPE = "stockade"
PROVIDER = "stockade.provider"
SESSION = "stockade.session.id"
AGENT = "stockade.agent.id"
EXECUTION = "stockade.execution.id"
POOLED = "stockade.session.pooled"
FORM = "stockade.execution.form"
VERDICT = "stockade.execution.verdict"
STREAM = "stockade.stream"
RESULT = "stockade.pool.result"
OUTCOME = "stockade.egress.outcome"
#: As OpenTelemetry's semantic conventions have them.
ERROR = "error.type"
EXIT_CODE = "process.exit.code"
HOST = "server.address"


def version() -> str:
    from stockade import __version__

    return __version__


def described(event: Event) -> dict[str, AttributeValue]:
    """What an execution's end says of it."""
    found: dict[str, AttributeValue | None] = {
        VERDICT: None if event.verdict is None else str(event.verdict),
        EXIT_CODE: event.exit_code,
        "stockade.execution.stdout.size": event.stdout_bytes,
        "stockade.execution.stderr.size": event.stderr_bytes,
    }
    return {name: value for name, value in found.items() if value is not None}
