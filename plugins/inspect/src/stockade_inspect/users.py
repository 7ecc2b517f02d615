"""Who runs a program: the session's own user, or another one where the wall can."""

from __future__ import annotations

from typing import Any

from inspect_ai.util import SandboxUserUnsupportedError

from stockade import Session
from stockade.capabilities import Feature
from stockade_inspect.waiting import called

__all__ = ["options_for"]


async def options_for(session: Session, user: str | None) -> dict[str, Any]:
    """What ``session.start`` is given for that user. Raises SandboxUserUnsupportedError."""
    if not user:
        return {}
    return await called(lambda: _options(session, user))


def _options(session: Session, user: str) -> dict[str, Any]:
    if user.partition(":")[0] in ("root", "0"):
        raise SandboxUserUnsupportedError(
            "nothing runs as root in stockade's sandboxes: leave the user out, or state one for "
            "the whole sandbox (user: in compose.yaml, ?user= in the string)."
        )
    own = session.run(["id", "-u"], timeout=60).stdout.strip()
    named = session.run(["id", "-un"], timeout=60).stdout.strip()
    if user in (own, named):
        return {}
    if not session.provider.wall.capabilities[Feature.EXECUTION_USER]:
        raise SandboxUserUnsupportedError(
            f"{session.provider.name} runs every command as {named or own}, so not as {user!r}; "
            "state the user for the whole sandbox (user: in compose.yaml, ?user= in the string)."
        )
    return {"user": _numbers(session, user)}


def _numbers(session: Session, user: str) -> str:
    """``UID:GID`` of a name, by the sandbox's own accounts."""
    if user.replace(":", "").isdigit():
        return user
    accounts = session.files.read("/etc/passwd").decode("utf-8", "replace")
    for line in accounts.splitlines():
        name, *rest = line.split(":")
        if name == user and len(rest) > 2:
            return f"{rest[1]}:{rest[2]}"
    raise SandboxUserUnsupportedError(f"the sandbox has no user {user!r}.")
