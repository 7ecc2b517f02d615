"""Opening the session of a sandbox; where a wall cannot serve, the message names others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from agents.sandbox import Manifest
from agents.sandbox.entries import Mount as MountEntry

import stockade
from stockade import Mount
from stockade.aio import AsyncSession
from stockade.aio.calls import in_thread
from stockade.errors import (
    ConfigError,
    ProviderUnavailableError,
    StockadeError,
    UnsupportedError,
)

__all__ = ["AGENT", "opened"]

#: The agent whose sessions are, in listings and for policies.
AGENT = "openai-agents"
#: What the SDK cannot do without.
_NEEDS = ("argv", "files", "background")
#: Seconds that a durable one lives where nobody said how long.
_DAY = 86_400.0


async def opened(
    provider: str | None, config: Mapping[str, Any], manifest: Manifest, ports: tuple[int, ...]
) -> AsyncSession:
    """Open one for the manifest; cancelling the await leaves none.

    Raises StockadeError; ConfigError for what of the manifest no sandbox of stockade's holds.
    """
    fields = {**config, **_of_manifest(manifest)}
    if ports:
        fields["ports"] = ports
    runtime = stockade.default_runtime()
    lasting, plain = await in_thread(runtime, lambda: _plans(provider, fields))
    if lasting is not None:
        # A wall that could have held it may fail to start, and the next one named may not hold it.
        with contextlib.suppress(UnsupportedError, ProviderUnavailableError):
            return await stockade.aio.open(provider, agent_id=AGENT, needs=_NEEDS, **lasting)
    try:
        return await stockade.aio.open(provider, agent_id=AGENT, needs=_NEEDS, **plain)
    except (UnsupportedError, ProviderUnavailableError) as error:
        await in_thread(runtime, functools.partial(_advise, error, fields))
        raise


def _of_manifest(manifest: Manifest) -> dict[str, Any]:
    """The fields that follow from it. Raises ConfigError."""
    if manifest.users or manifest.groups:
        raise ConfigError(
            "the manifest names users or groups, and stockade's sandboxes run everything as one "
            "unprivileged user: leave them out."
        )
    for path, entry in manifest.iter_entries():
        if isinstance(entry, MountEntry):
            raise ConfigError(
                f"the manifest's entry {str(path)!r} is a mount of {entry.type}, which needs "
                "privileges that no sandbox of stockade's has: copy the files in, or name a "
                "folder of this machine in extra_path_grants."
            )
    shown = [
        Mount(one.host_path, one.path, read_only=one.read_only)
        for one in manifest.extra_path_grants
        if one.host_path is not None
    ]
    return {"working_dir": manifest.root, **({"mounts": tuple(shown)} if shown else {})}


def _plans(
    provider: str | None, fields: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """What to open: first durable where a wall can and nobody stated it, so that a later process
    resumes it; else as it is stated."""
    named = provider or ""
    if "durable" in fields or "durable=" in named:
        return None, fields
    stated = "lifetime_seconds" in fields or "lifetime_seconds=" in named
    # It ends with this process; a later one goes on from the snapshot, as the SDK has it.
    plain = fields if stated else {**fields, "lifetime_seconds": None}
    try:
        stockade.provider(provider, needs=("durable", *_NEEDS), **fields)
    except (UnsupportedError, ProviderUnavailableError):
        return None, plain
    lifetime = {} if stated else {"lifetime_seconds": _DAY}
    return {**fields, "durable": True, **lifetime}, plain


def _advise(error: StockadeError, fields: Mapping[str, Any]) -> None:
    """Have it name the provider strings that can; whether it may be tried again stays."""
    able = stockade.suitable_providers(needs=_NEEDS, **fields)
    error.args = (f"{error} Here these can: {', '.join(able) or 'none'}.",)
