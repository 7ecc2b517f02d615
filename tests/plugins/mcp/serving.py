"""What the tests of the MCP server share: a client in this process, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp
from mcp_types import CallToolResult, TextContent

import stockade
from stockade_mcp import Behind, make_server
from stockade_mcp import Client as Sandboxed

REFERENCE = "reference-no-isolation"


def behind(preference: str, **more: Any) -> Behind:
    """Of an agent of its own."""
    return Behind(preference=preference, agent=f"mcp-{uuid.uuid4().hex}", **more)


def sessions(of: Behind) -> int:
    """How many there are, in whatever state."""
    return len(_records(of))


def end(of: Behind) -> None:
    """End its sandboxes from outside, as a lifetime does."""
    for record in _records(of):
        stockade.default_runtime().destroy(record)


def fail(of: Behind) -> None:
    """Have its sandboxes fail, as a program does that nothing ends."""
    for record in _records(of):
        record.fail("a test has it so")


def _records(of: Behind) -> list[Any]:
    records = stockade.default_runtime().registry.records()
    return [record for record in records if record.agent_id == of.agent]


@asynccontextmanager
async def connected(of: Behind, mode: Any = "legacy") -> AsyncIterator[mcp.Client]:
    """The official client, connected to a server in this process."""
    sandboxed = Sandboxed(of)
    try:
        async with mcp.Client(make_server(lambda _: sandboxed, of), mode=mode) as client:
            yield client
    finally:
        await sandboxed.close()


async def call(client: mcp.Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool gave; the text says the same as the structure."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text(result)
    given: dict[str, Any] = result.structured_content or {}
    if set(given) != {"result"}:
        assert json.loads(text(result)) == given
    return given


async def failing(client: mcp.Client, tool: str, **arguments: Any) -> str:
    """What its error says."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return text(result)


def text(result: CallToolResult) -> str:
    found = result.content[0]
    assert isinstance(found, TextContent)
    return found.text


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what comes about elsewhere."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)
