"""The same in the images that walls run: a Python without ctypes, a user without rights."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.toolkit.supervised.double import ENDED, Outcome
from core.toolkit.supervised.programs import SAME, SOURCE, STATUS_ALONE, TRACEBACKS
from stockade.toolkit.supervised.warm import BOOT, FRESH, NAMED

IMAGE = "stockade-test/python"
HERE = Path(__file__).parent
pytestmark = pytest.mark.engine


class Inside:
    """The double in a container, over its standard streams."""

    def __init__(self, runtime: str, mode: str) -> None:
        self._process = subprocess.Popen(
            [
                "docker",
                "run",
                "--rm",
                "-i",
                "--network=none",
                "--read-only",
                "--tmpfs=/tmp",
                "--user=65534:65534",
                "--cap-drop=ALL",
                "--security-opt=no-new-privileges",
                f"--runtime={runtime}",
                f"--volume={HERE / 'double.py'}:/double.py:ro",
                IMAGE,
                "python3",
                "-u",
                "/double.py",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._ask({"python": "python3", "boot": BOOT, "source": SOURCE, "mode": mode})

    def _ask(self, what: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(repr(what) + "\n")
        self._process.stdin.flush()

    def run(self, code: str, **options: Any) -> Outcome:
        self._ask({"code": code, **options})
        assert self._process.stdout
        return Outcome(*ast.literal_eval(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate(timeout=60)


def runtimes() -> list[str]:
    """The engine's that are here, of the two that the walls are for; none without an engine."""
    try:
        said = subprocess.run(
            ["docker", "info", "--format", "{{json .Runtimes}}"],
            capture_output=True,
            timeout=30,
            check=True,
        )
        return [name for name in ("runc", "runsc") if name in json.loads(said.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


RUNTIMES = runtimes()


def container(runtime: str, mode: str) -> Iterator[Inside]:
    inside = Inside(runtime, mode)
    yield inside
    inside.close()


@pytest.fixture(scope="module", params=RUNTIMES)
def fresh(request: pytest.FixtureRequest) -> Iterator[Inside]:
    yield from container(request.param, FRESH)


@pytest.fixture(scope="module", params=RUNTIMES)
def named(request: pytest.FixtureRequest) -> Iterator[Inside]:
    yield from container(request.param, NAMED)


#: A program that runs others each in a new interpreter, and shows what came of them.
NEW = """
import subprocess, sys
p = subprocess.run([sys.executable, '-c', %r], input=b'line\\0rest', stdout=-1, stderr=-1,
    start_new_session=True)
print((p.returncode, p.stdout, p.stderr))
"""


@pytest.mark.parametrize("name", SAME)
def test_a_program_is_as_in_a_new_interpreter(name: str, fresh: Inside) -> None:
    new = fresh.run(NEW % SAME[name])
    right = ast.literal_eval(new.out.decode())
    seen = fresh.run(SAME[name], stdin=b"line\0rest")
    shown = (seen.status, seen.out, seen.err)
    # A smaller Python has not every module, and shows lines of files alone.
    same = 2 if name in STATUS_ALONE or b"ModuleNotFoundError" in right[2] else 3
    assert shown[:same] == right[:same]


def test_tracebacks_show_lines(fresh: Inside) -> None:
    for name, text in TRACEBACKS.items():
        shown = fresh.run(text).err.decode().splitlines()
        lines = {line.strip() for line in text.splitlines()}
        assert any(line.strip() in lines for line in shown), (name, shown)


def test_a_named_one(named: Inside) -> None:
    first = named.run("import os; x = 1; print(os.getuid())")
    assert (first.said[-1], first.out) == ((ENDED, 0), b"65534\n")
    failed = named.run("def f():\n    return x / 0  # here\nf()")
    assert b"    return x / 0  # here\n" in failed.err
    seen = named.run("print(x, sys.path[0])", env={"PYTHONPATH": "/tmp/x"})
    assert (seen.status, seen.err.splitlines()[-1][:9]) == (1, b"NameError")  # of `sys`
    seen = named.run("import sys; print(x, sys.path[:2])", env={"PYTHONPATH": "/tmp/x"})
    assert seen.out == b"1 ['', '/tmp/x']\n"


def test_an_address_of_a_program_is_no_way_to_its_server(fresh: Inside) -> None:
    """Without ctypes the interpreter cannot hide, but what it reports by is no file."""
    text = (
        "import os\n"
        "for n in range(64):\n"
        "    try: os.write(os.open('/proc/%d/fd/%d' % (os.getppid(), n), os.O_WRONLY), b'x' * 8)\n"
        "    except OSError: pass\n"
    )
    assert fresh.run(text).status == 0
    assert fresh.run("print(1)").out == b"1\n"
