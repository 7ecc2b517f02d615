"""pytest-stockade in runs of pytest of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need

REFERENCE = "reference-no-isolation"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pytest_stockade") is None,
    reason="pytest-stockade is not installed; run: tox -e adapters",
)


def run(folder: Path, text: str, *arguments: str, **settings: str) -> str:
    """What pytest says of tests with this text."""
    (folder / "test_it.py").write_text(text)
    lines = [f"{name} =\n    {value}" for name, value in settings.items()]
    (folder / "pytest.ini").write_text("\n".join(["[pytest]", *lines, ""]))
    # Where it is installed, pytest finds it by itself.
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "STOCKADE_PROVIDER": REFERENCE},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


ONE = """
def test_one(sandbox, sandbox_provider):
    sandbox.files.write("file", b"x")
    assert sandbox.shell("cat file").stdout == "x"
    print("behind", sandbox.provider.name, sandbox_provider)
"""


def test_each_wall_that_is_named_once(tmp_path: Path) -> None:
    assert f"behind {REFERENCE} None" in run(tmp_path, ONE)
    twice = ("--sandbox", REFERENCE, "--sandbox", f"{REFERENCE}?env_vars=A=secret")
    said = run(tmp_path, ONE, *twice)
    assert "2 passed" in said and said.count(f"test_one[{REFERENCE}") >= 2
    assert "test_one[" in said and "secret]" not in said
    assert f"test_one[{REFERENCE}]" in run(tmp_path, ONE, sandbox_providers=REFERENCE)


def test_the_marker_stands_over_the_options(tmp_path: Path) -> None:
    text = f"""
import pytest
@pytest.mark.sandbox("{REFERENCE}", timeout_seconds=0.5)
def test_one(sandbox, open_sandbox):
    assert str(sandbox.shell("sleep 60").verdict) == "timed out"
    other = open_sandbox(timeout_seconds=30)
    assert other.provider.config.timeout_seconds == 30
    assert other.session_id != sandbox.session_id
"""
    assert "1 passed" in run(tmp_path, text, "--sandbox", "no-such-wall", "--strict-markers")


def test_sessions_are_closed_with_their_test(tmp_path: Path) -> None:
    text = """
kept = []
def test_one(sandbox):
    kept.append(sandbox)
    raise ValueError("this test fails")
def test_two():
    assert str(kept[0].status) == "destroyed"
"""
    assert "1 failed, 1 passed" in run(tmp_path, text)


@pytest.mark.parametrize(("string", "options"), [("no-such-wall", ""), (REFERENCE, "memory_mb=64")])
def test_a_wall_that_is_not_there_skips_or_fails(string: str, options: str, tmp_path: Path) -> None:
    text = f"""
import pytest
@pytest.mark.sandbox("{string}", {options})
def test_one(sandbox): pass
"""
    said = run(tmp_path, text)
    assert "1 skipped" in said and (options.partition("=")[0] or string) in said
    assert "1 error" in run(tmp_path, text, "--sandbox-required")


def test_a_wrong_string_is_an_error(tmp_path: Path) -> None:
    assert "did you mean 'memory_mb'" in run(tmp_path, ONE, "--sandbox", f"{REFERENCE}?memori_mb=1")


def test_the_documentation_s_own(tmp_path: Path) -> None:
    need("landlock")
    need("bubblewrap")
    page = Path(__file__).parents[3] / "docs" / "testing-applications.md"
    [text] = re.findall(r"```python\n(import pytest\n.*?)```", page.read_text(), re.DOTALL)
    assert "3 passed" in run(tmp_path, text, "--sandbox", "landlock", "--strict-markers")


def test_behind_a_wall(tmp_path: Path) -> None:
    need("landlock")
    assert "behind landlock landlock" in run(tmp_path, ONE, "--sandbox", "landlock")


def test_tests_that_use_no_fixture_pay_nothing(tmp_path: Path) -> None:
    text = """
import sys
def test_one():
    assert "stockade" not in sys.modules
"""
    assert "1 passed" in run(tmp_path, text, "--sandbox", "no-such-wall")
