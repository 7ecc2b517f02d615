"""The examples in the help of ``stockade serve``: each starts, says where it listens, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from stockade.cli.examples import examples_of

command = pytest.importorskip(
    "stockade_server.command", reason="stockade-server is not installed (tox -e server)"
)


def found(one: click.Command) -> list[str]:
    below = one.commands.values() if isinstance(one, click.Group) else ()
    return [*examples_of(one), *(line for each in below for line in found(each))]


def lines() -> list[str]:
    group = click.Group("stockade")
    command.stockade_add_commands(group)
    return found(group)


@pytest.mark.parametrize("line", lines())
def test_an_example_runs(line: str, tmp_path: Path, landlock: str) -> None:
    (tmp_path / "stockade.toml").write_text(
        '[serve]\nport = 0\n[serve.templates.base]\nprovider = "local"\n'
    )
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if " key add " in line:
        done = subprocess.run(
            ["bash", "-ec", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() and "shown this once" in done.stderr
        return
    # The ports that people use may be taken where the tests run.
    line = line.replace("--port 8080", "") + " --port 0"
    if "--config" in line:
        line = f"stockade serve key add some > key && exec {line}"
    else:
        line = f"exec {line}"
    with subprocess.Popen(
        ["bash", "-c", line], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout is not None
        try:
            assert served.stdout.readline().startswith("E2B_API_URL=http://")
        finally:
            served.send_signal(signal.SIGINT)
            served.communicate(timeout=30)
