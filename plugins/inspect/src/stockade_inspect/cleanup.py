"""What is left of sandboxes, and the way into one for a person."""

from __future__ import annotations

import shlex

from inspect_ai.util import SandboxConnection

import stockade
from stockade.ledger._overview import overview
from stockade.values.ids import agent_hash
from stockade_inspect.sandboxes import AGENT

__all__ = ["collected", "command", "connection", "labels"]


def labels(task: str, sample: str, service: str) -> dict[str, str]:
    """The marks of a session in listings: printable, and short enough."""
    given = {"inspect-task": task, "inspect-sample": sample, "inspect-sandbox": service}
    return {
        name: "".join(one if one.isprintable() else "?" for one in text)[:128]
        for name, text in given.items()
    }


def command(session_id: str) -> str:
    """The line that opens a terminal in a session, from any process of this user."""
    return shlex.join(["stockade", "session", "shell", "--agent", AGENT, session_id])


def connection(session: stockade.Session) -> SandboxConnection:
    """Raises ConnectionError where it is gone, NotImplementedError where only this process
    reaches it."""
    if str(session.status) not in ("ready", "executing"):
        raise ConnectionError(f"session {session.session_id} is {session.status}.")
    if not session.provider.config.durable:
        raise NotImplementedError(
            f"this sandbox ends with inspect's process, so nobody else reaches it; with the option "
            f"durable=true ({session.provider.name}?durable=true, where the wall can) others may."
        )
    return SandboxConnection(type="stockade", command=command(session.session_id))


def collected(session_id: str | None) -> None:
    """Remove one session, whoever owns it; without an id all that inspect left running or that
    has no owner any more, and say so."""
    ledger = stockade.default_runtime().ledger
    records = [] if session_id or ledger is None else ledger.sessions()
    mine = {one.session_id for one in records if one.agent == agent_hash(AGENT)}
    left = [one for one in overview(ledger) if one.durable and not one.users]
    ours = [one.session_id for one in left if one.session_id in mine]
    done = stockade.collect(force=[session_id] if session_id else ours)
    for one, _, why in done.removed:
        print(f"removed {one}: {why}")
    for one, why in (*done.failed, *done.skipped):
        print(f"not removed: {one}: {why}")
    if not done.removed and done.clean:
        print("nothing of stockade's is left over")
