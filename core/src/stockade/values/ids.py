"""Ids from the system's random source, and the check of an agent's id (C1, C2)."""

from __future__ import annotations

import hashlib
import os

from stockade.errors import ConfigError

__all__ = ["agent_hash", "check_agent_id", "new_execution_id", "new_session_id"]


def new_session_id() -> str:
    """160 random bits; letters, digits and ``-`` only, so that it is fit for a name."""
    return "ses-" + os.urandom(20).hex()


def new_execution_id() -> str:
    return "exe-" + os.urandom(20).hex()


def check_agent_id(agent_id: object) -> str:
    """Return it, or raise ConfigError: 1 to 128 printable characters (C1)."""
    if not isinstance(agent_id, str) or not 1 <= len(agent_id) <= 128 or not agent_id.isprintable():
        shown = repr(agent_id)
        raise ConfigError(
            f"agent_id={shown[:80]} is not allowed: give 1 to 128 printable characters."
        )
    return agent_id


def agent_hash(agent_id: str) -> str:
    """What stands for the agent wherever its id itself must not show (C1)."""
    return hashlib.sha256(b"stockade agent\0" + agent_id.encode()).hexdigest()[:32]
