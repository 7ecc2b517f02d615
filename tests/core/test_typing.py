"""A type checker catches what would fail at run time: misspelled keywords, wrong values."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import attrs

from stockade import SandboxConfig
from stockade.config import ConfigOptions

ROOT = Path(__file__).parents[2]
#: Each line with a wrong one ends in the error that it gets.
PROGRAM = """
import asyncio

import stockade
from stockade import OutputPolicy, Pool, SandboxConfig

with stockade.open("x", agent_id="a", memory_mb=64, network_allow=["a.org"]) as session:
    session.run(["a"], timeout=None, working_dir="sub")
    session.run(["a"], timout=1)  # call-arg
    session.shell("a", timeout="1")  # arg-type
    session.start(shell="a", stdin=7)  # arg-type
stockade.open("x", memry_mb=64)  # call-arg
stockade.open("x", memory_mb="64")  # arg-type
stockade.open("x", output_policy=OutputPolicy.END, mounts=(), labels={"a": "b"})
stockade.open("x", timeout_seconds=None)  # arg-type
stockade.provider("x", durabel=True)  # call-arg
Pool("x", size=2, network_enable=True)  # call-arg
SandboxConfig().with_(memory=1)  # call-arg


async def main() -> None:
    async with stockade.aio.open("x", cpu_limit=0.5) as session:
        result = await session.run(["a"], timeout=2)
        print(result.exit_code + 1)
        async with session.stream(["a"]) as execution:
            async for chunk in execution:
                print(chunk.data.decode())
        async for chunk in session.stream(shell="a"):
            print(chunk.data.decode())
        await session.shell("a", env=["A=1"])  # arg-type
        data = await session.files.read("f", max_bytes=7)
        print(data.decode())
        await session.files.read("f", max_byte=7)  # call-arg
        await session.files.write("f", "text")  # arg-type
        terminal = await session.terminal(["sh"], rows=3)
        await terminal.write(7)  # arg-type
    await stockade.aio.open("x", cpu_limit="0.5")  # arg-type
    await stockade.aio.open("x", cpu=1)  # call-arg
    stockade.aio.AsyncPool("x", sise=2)  # call-arg


asyncio.run(main())
"""


def test_the_keywords_are_the_fields() -> None:
    assert set(ConfigOptions.__annotations__) == set(attrs.fields_dict(SandboxConfig))


def test_wrong_keywords_and_values_are_caught(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            str(ROOT / ".mypy_cache"),
            "--python-version",
            "3.10",
            "--no-error-summary",
            "program.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    found = {
        int(match[1]): match[2]
        for match in re.finditer(
            r"^program\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE
        )
    }
    wanted = {
        number: line.partition("  # ")[2]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "  # " in line
    }
    assert found == wanted, done.stdout + done.stderr
