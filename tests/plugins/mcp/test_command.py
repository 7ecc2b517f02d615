"""``stockade-mcp`` as clients start it: on standard input and output."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mcp
import pytest
from mcp import StdioServerParameters

from plugins.mcp.serving import REFERENCE, call, until

PROGRAM = str(Path(sys.executable).parent / "stockade-mcp")


def server(cwd: Path, *arguments: str, **more: str) -> StdioServerParameters:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "XDG_STATE_HOME")}
    env = {**kept, **more}
    return StdioServerParameters(command=PROGRAM, args=list(arguments), env=env, cwd=cwd)


def alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_client_s_sandbox_ends_with_it(tmp_path: Path, mode: Any) -> None:
    async def main() -> None:
        async with mcp.Client(server(tmp_path, "-p", REFERENCE), mode=mode) as client:
            assert (await call(client, "run_command", command="echo $((6*7))"))["stdout"] == "42\n"
            # One of the same sandbox in the next request, whichever protocol it is.
            await call(client, "start_process", command="echo $$ > pid; exec sleep 1000")
            line = "until [ -s pid ]; do sleep 0.02; done; cat pid; pwd"
            pid, folder = (await call(client, "run_command", command=line))["stdout"].split()
            assert alive(pid) and Path(folder).is_dir()
        await until(lambda: not alive(pid) and not Path(folder).exists())

    asyncio.run(main())


def test_what_the_operator_says_holds(tmp_path: Path, landlock: str) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    for folder in (project, other):
        folder.mkdir()
        (folder / "file").write_text("old")
    options = ["-p", landlock, "--mount", ".:rw", "--mount", str(other), "--put", "file:/tmp/copy"]
    options += ["--env", "GIVEN", "--timeout", "3", "--memory", "256", "--processes", "40"]

    async def main() -> None:
        async with mcp.Client(server(project, *options, GIVEN="a value")) as client:
            line = f"pwd; cat file /tmp/copy; echo $GIVEN; echo new > file; echo x > {other}/file"
            done = await call(client, "run_command", command=line)
            assert done["stdout"] == f"{project}\noldolda value\n"
            assert done["exit_code"] != 0 and (other / "file").read_text() == "old"
            # Files' relative paths begin where commands do.
            assert (await call(client, "read_file", path="file"))["text"] == "new\n"
            late = await call(client, "run_command", command="sleep 60", timeout_seconds=50)
            assert late["verdict"] == "timed out"
            big = await call(client, "run_code", code="x = bytearray(1 << 30)")
            assert big["verdict"] == "out of memory"
            dark = await call(
                client,
                "run_code",
                code="import socket\nsocket.create_connection(('1.1.1.1', 53), 2)",
            )
            assert dark["error"]["name"] in ("OSError", "TimeoutError", "PermissionError")

    asyncio.run(main())
    assert (project / "file").read_text() == "new\n"


def test_a_project_s_file_chooses_the_wall(tmp_path: Path, landlock: str) -> None:
    (tmp_path / "stockade.toml").write_text(f'provider = "{landlock}?timeout_seconds=1"\n')

    async def main() -> None:
        async with mcp.Client(server(tmp_path)) as client:
            assert (await call(client, "run_command", command="sleep 60"))["verdict"] == "timed out"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "no-such-wall"], "no-such-wall"),
        (["-p", f"{REFERENCE}?memori_mb=1"], "memory_mb"),
        (["--timeout", "0", "-p", REFERENCE], "timeout_seconds"),
        (["docker"], "write: stockade-mcp -p docker"),
        (["-p", REFERENCE, "--http", "127.0.0.1:0"], "needs a key"),
        (["-p", REFERENCE, "--http", "0.0.0.0:0", "--insecure"], "loopback alone"),
        (["-p", REFERENCE, "--http", "127.0.0.1"], "HOST:PORT"),
        (["-p", REFERENCE, "--http", "127.0.0.1:65536"], "HOST:PORT"),
        (["-p", REFERENCE, "--http", "127.0.0.1:²"], "HOST:PORT"),
    ],
)
def test_what_cannot_be_meant_ends_it_at_once(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert says in re.sub(r"\s+", " ", done.stderr)
