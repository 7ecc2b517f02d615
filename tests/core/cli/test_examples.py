"""Every line of a command's examples runs as it stands, in a folder with a small project.

All of them take a minute, so without STOCKADE_EXAMPLES=long (``tox -e examples``) the quick ones
run, and of the others the options are looked at.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest

from conftest import need
from stockade.cli.app import app
from stockade.cli.examples import EXAMPLES

LONG = os.environ.get("STOCKADE_EXAMPLES") == "long"
QUICK = ("plugins", "new-plugin", "session list", "audit verify")
Done = subprocess.CompletedProcess[str]
#: Runs a line on a terminal, and types until it ends.
_TYPED = (
    "(for i in $(seq 20); do sleep 1; printf 'exit\\nexit()\\n' 2>/dev/null || break; done) | "
    f"{shlex.quote(sys.executable)} -c 'import os, pty, sys; "
    'sys.exit(os.waitstatus_to_exitcode(pty.spawn(["bash", "-c", sys.argv[1]])))\' '
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "walls").mkdir()
    (tmp_path / "data" / "some.csv").write_text("a,b\n1,2\n")
    (tmp_path / "tests.py").write_text("print('all well')\n")
    (tmp_path / "release").write_text(
        '#!/bin/sh\ntest -n "$TOKEN" && test "$TOKEN" != "of nobody"\n'
    )
    (tmp_path / "release").chmod(0o755)
    return tmp_path


def runnable(line: str) -> str:
    """The line, with images that the tests have, a hand at its terminal, and an end."""
    line = re.sub(r"python:3\.12(-slim)?", "stockade-test/python", line)
    if re.match(r"stockade (session )?shell\b", line):
        return _TYPED + shlex.quote(line)
    return f"timeout --preserve-status 10 {line}" if "--watch" in line else line


def walls(lines: Sequence[str]) -> set[str]:
    named = {wall for wall in ("docker", "gvisor", "landlock") if wall in " ".join(lines)}
    named |= {"docker"} if "$id" in " ".join(lines) else set()
    return named or {"landlock"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables for the examples: a ledger of their own, and all that is in it ended afterwards."""
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOKEN": "of nobody",
        "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state")),
    }
    yield env
    listed = bash("stockade session list --json", env).stdout
    ids = [entry["session_id"] for entry in json.loads(listed)]
    if ids:
        bash(f"stockade session destroy {' '.join(ids)}", env)


@pytest.fixture(scope="module")
def durable(state: dict[str, str]) -> Callable[[], str]:
    """The id of one durable session for all examples that need one."""
    ids: list[str] = []

    def of() -> str:
        if not ids:
            done = bash("stockade session create -p docker:stockade-test/python", state)
            ids.append(done.stdout.strip())
        return ids[0]

    return of


def bash(script: str, env: dict[str, str], folder: Path | None = None) -> Done:
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def arguments(line: str) -> list[str]:
    """What stands behind ``stockade`` in a line, up to where the shell's part begins."""
    words = shlex.shlex(line.partition("stockade ")[2], posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return list(itertools.takewhile(lambda word: word not in ("|", ">", ")"), words))


@pytest.mark.parametrize("words", EXAMPLES)
def test_the_examples_have_options_that_there_are(
    words: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "files.snapshot").touch()
    for line in EXAMPLES[words]:
        command: click.Command = app
        rest = arguments(line)
        while isinstance(command, click.Group):
            name, found, rest = command.resolve_command(click.Context(command), rest)
            assert name is not None and found is not None
            command = found
        command.make_context(name, rest)


@pytest.mark.timeout(300)  # several commands each, beside whatever else the machine does
@pytest.mark.parametrize("words", EXAMPLES if LONG else QUICK)
def test_the_examples_run(
    words: str, project: Path, state: dict[str, str], durable: Callable[[], str]
) -> None:
    lines = EXAMPLES[words]
    for wall in walls(lines):
        need(wall)
    if "man -l" in " ".join(lines) and shutil.which("man") is None:
        pytest.skip("no man is installed")
    env = dict(state)
    if "$id" in " ".join(lines) and not lines[0].startswith("id="):
        env["id"] = durable()
    before = {"session resume": "stockade session pause $id\n"}.get(words, "")
    after = {"session pause": "\nstockade session resume $id"}.get(words, "")
    done = bash(f"{before}{chr(10).join(map(runnable, lines))}{after}", env, project)
    assert done.returncode == 0, done
