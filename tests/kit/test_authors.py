"""What an author sees while a wall is being written: their own lines, and what to mend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.walls import ScriptedSandbox, ScriptedWall, make_provider
from stockade import ConfigError, PluginError, Runtime, WallError, provider
from stockade.capabilities import Capabilities, Feature
from stockade.session import Session
from stockade.wall import Sandbox

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "writing-a-provider.md"
WALL = """
from stockade.plugin import hookimpl
from stockade.testing.reference import ReferenceWall
from stockade.testing.subprocesses import PlainSandbox

STOCKADE_API_VERSION = 1


def open_the_door():
    raise {error}


class AuthorsSandbox(PlainSandbox):
    def start(self, request, output):
        {start}
        return super().start(request, output)


class AuthorsWall(ReferenceWall):
    def probe(self):
        {probe}
        return super().probe()

    def open(self, request):
        {open}
        return AuthorsSandbox(request)


@hookimpl
def stockade_wall():
    return AuthorsWall
"""
CALL = "open_the_door()"


@pytest.fixture
def authors(tmp_path: Path) -> Any:
    """Installs a wall `authors` that raises on request; the environment that has it."""

    def install(error: str = "ValueError('the hinge')", **where: str) -> dict[str, str]:
        info = tmp_path / "stockade_authors.dist-info"
        info.mkdir()
        calls = {name: where.get(name, "pass") for name in ("start", "probe", "open")}
        (tmp_path / "authors_wall.py").write_text(WALL.format(error=error, **calls))
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: stockade-authors\nVersion: 1\n"
        )
        (info / "entry_points.txt").write_text("[stockade.providers]\nauthors = authors_wall\n")
        (tmp_path / "test_authors.py").write_text(
            "from stockade.testing import ProviderConformance\n\n\n"
            "class TestAuthors(ProviderConformance):\n    provider = 'authors'\n"
        )
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return install


def ran(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=env,
        cwd=env["PYTHONPATH"],
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def shows_the_line(output: str) -> bool:
    return "authors_wall.py" in output and "open_the_door" in output


@pytest.mark.parametrize("where", ["start", "open"])
def test_pytest_shows_an_authors_traceback_by_default(authors: Any, where: str) -> None:
    output = ran(authors(**{where: CALL}), "pytest", "-q", "test_authors.py", "-k", "test_D2_exit")
    assert shows_the_line(output) and "ValueError: the hinge" in output, output
    assert "Failed: D2" in output and "expected: no error" in output
    assert "1 failed" in output


def test_what_a_check_found_stays_short(authors: Any) -> None:
    """Where the wall raised nothing, there is nothing to trace."""
    env = authors(start="import attrs; request = attrs.evolve(request, env={})")
    output = ran(env, "pytest", "-q", "test_authors.py", "-k", "test_D9_working")
    assert "D9\n  expected: as given" in output and "Traceback" not in output
    assert "guard.py" not in output and "d_executing.py:" in output


@pytest.mark.parametrize("where", ["start", "open"])
def test_the_command_shows_it_where_it_is_asked_to(authors: Any, where: str) -> None:
    env = authors(**{where: CALL})
    command = ("stockade.cli", "conformance", "-p", "authors", "--clause", "D2")
    output = ran(env, *command)
    assert not shows_the_line(output) and "--traceback shows where" in output
    assert shows_the_line(ran(env, *command, "--traceback"))


def test_run_shows_it_where_it_is_asked_to(authors: Any) -> None:
    env = authors(open=CALL)
    output = ran(env, "stockade.cli", "run", "-p", "authors", "--", "true")
    assert not shows_the_line(output) and "ValueError: the hinge" in output
    for command in (
        ("--traceback", "run", "-p", "authors", "--", "true"),
        ("run", "--traceback", "-p", "authors", "--", "true"),
    ):
        assert shows_the_line(ran(env, "stockade.cli", *command))


def test_doctor_shows_what_a_probe_raised(authors: Any) -> None:
    env = authors(probe=CALL)
    assert not shows_the_line(ran(env, "stockade.cli", "doctor", "-p", "authors"))
    output = ran(env, "stockade.cli", "doctor", "-p", "authors", "--traceback")
    assert shows_the_line(output) and "ValueError: the hinge" in output


def test_an_error_without_words_is_named_without_a_hole(authors: Any) -> None:
    output = ran(
        authors("ZeroDivisionError", open=CALL),
        "stockade.cli",
        "run",
        "-p",
        "authors",
        "--",
        "true",
    )
    assert "failed to start a sandbox: ZeroDivisionError; see" in output, output


@pytest.mark.parametrize("name", ["pause", "resume", "terminal", "address_of", "forward", "detach"])
def test_what_is_claimed_and_not_written_says_so(name: str) -> None:
    class Claims(ScriptedSandbox):
        pass

    for method in ("pause", "resume"):
        setattr(Claims, method, getattr(Sandbox, method))
    arguments: dict[str, tuple[Any, ...]] = {
        "terminal": (None,),
        "address_of": (1,),
        "forward": (None, 1),
    }
    with pytest.raises(NotImplementedError, match=rf"Claims has no {name}\(\).*leave the claim"):
        getattr(Claims(), name)(*arguments.get(name, ()))
    with pytest.raises(NotImplementedError, match=r"ScriptedWall has no remove\(\)"):
        ScriptedWall().remove(None)  # type: ignore[arg-type]
    if name == "pause":
        wall = ScriptedWall()
        wall.sandbox = Claims()
        provider = make_provider(wall=wall)
        with Session(provider, provider.open_record("a")) as session:
            with pytest.raises(WallError, match=r"Claims has no pause\(\): write it, or leave"):
                session.pause()


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: Capabilities({"memroy": "native"}), "did you mean 'memory'"),
        (lambda: Capabilities().with_(read_only_rot="native"), "did you mean 'read-only-root'"),
        (lambda: Capabilities()["shel"], "did you mean 'shell'"),
        (lambda: Capabilities({"memory": "nativ"}), "did you mean 'native'"),
        (lambda: Capabilities({"memory": ("emulatd", "note")}), "did you mean 'emulated'"),
    ],
)
def test_a_misspelled_feature_suggests_the_nearest(call: Any, nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest):
        call()
    assert Capabilities({"memory": "native"})[Feature.MEMORY]


def test_a_misspelled_feature_names_the_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class Misspelled(ScriptedWall):
        @property
        def capabilities(self) -> Capabilities:  # type: ignore[override]
            return Capabilities({"memroy": "native"})

    runtime = Runtime(discover_plugins=False)
    monkeypatch.setattr(runtime.walls, "load", lambda _: Misspelled)
    with pytest.raises(PluginError, match=r"'mine' states its capabilities wrongly: 'memroy' is"):
        provider("mine", runtime=runtime)


def test_the_pages_code_is_strictly_typed(tmp_path: Path) -> None:
    """Each block with a class in it, as a module of its own."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    whole = [text for text in blocks if "\nclass " in text]
    assert len(whole) >= 3
    for number, text in enumerate(whole):
        (tmp_path / f"block_{number}.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--python-version",
            "3.10",
            "--cache-dir",
            str(ROOT / ".mypy_cache"),
            ".",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
