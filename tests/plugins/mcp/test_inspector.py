"""The protocol's own inspector (npm), by its command line: a client that is nobody's of ours."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import need, until
from plugins.mcp.test_command import PROGRAM
from plugins.mcp.test_tools import PARAMETERS

#: Where npm has installed it, with a node that it runs on; `tox -e adapters` does so.
PLACE = Path(os.environ.get("STOCKADE_INSPECTOR", "nowhere")) / "node_modules" / ".bin"

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not (PLACE / "mcp-inspector").exists(),
        reason="no inspector in STOCKADE_INSPECTOR; where npm is, `tox -e adapters` installs it",
    ),
]


def ask(*words: str) -> dict[str, Any]:
    """What the inspector answers."""
    done = subprocess.run(
        [PLACE / "node", PLACE / "mcp-inspector", "--cli", "--connect-timeout", "120000", *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def test_it_lists_every_tool() -> None:
    need("landlock")
    found = ask("--method", "tools/list", "--", PROGRAM, "-p", "landlock")
    assert {one["name"] for one in found["tools"]} >= {"run_command", "run_code", "read_file"}
    for one in found["tools"]:
        assert set(one["inputSchema"]["properties"]) <= set(PARAMETERS[one["name"]])


def test_it_runs_a_command_and_gets_a_structured_result() -> None:
    need("landlock")
    call = ["--method", "tools/call", "--tool-name", "run_command"]
    found = ask(*call, "--tool-arg", "command=echo $((6 * 7))", "--", PROGRAM, "-p", "landlock")
    assert found["structuredContent"]["stdout"] == "42\n" and not found["isError"]
    assert found["structuredContent"]["verdict"] == "exited"


@contextlib.contextmanager
def served(key: str) -> Iterator[str]:
    """``stockade-mcp`` on HTTP; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = free.getsockname()
    words = [PROGRAM, "-p", "landlock", "--http", f"{place[0]}:{place[1]}"]
    server = subprocess.Popen(words, env={**os.environ, "STOCKADE_MCP_KEY": key})

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(place, 1):
            return True
        return False

    try:
        assert until(answers, 60)
        yield f"http://{place[0]}:{place[1]}/mcp"
    finally:
        server.terminate()
        server.wait(20)


def test_it_gets_in_over_http_with_a_key_alone() -> None:
    need("landlock")
    key = secrets.token_urlsafe(32)
    with served(key) as url:
        call = [url, "--transport", "http", "--method", "tools/call", "--tool-name", "run_command"]
        call += ["--tool-arg", "command=echo over http"]
        found = ask(*call, "--header", f"Authorization: Bearer {key}")
        assert found["structuredContent"]["stdout"] == "over http\n"
        with pytest.raises(AssertionError, match="401|auth"):
            ask(*call)
