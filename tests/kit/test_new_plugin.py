"""`stockade new-plugin`: what it writes works at once, and nothing is ever overwritten."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.cli.commands import new_plugin
from stockade.cli.commands.new_plugin import check_name, rendered, write_plugin
from stockade.errors import ConfigError

ROOT = Path(__file__).parents[2]
LONG = "as-long-as-a-name-may-be"


def stockade(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.parametrize("name", ["a", "demo", "my-wall", "b2-c3", LONG])
def test_names_that_are_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("Demo", "demo"),
        ("my_wall", "my-wall"),
        ("my--wall-", "my-wall"),
        ("stockade-demo", "demo"),
        ("9p", "p"),
        ("../evil", "evil"),
        ("a b", "a-b"),
        ("", "mywall"),
        ("日本", "mywall"),
        (LONG + "y", LONG),
        ("x\n", "x"),
    ],
)
def test_names_that_are_none_get_a_better_one(name: str, better: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"try {better!r}"):
        write_plugin(name, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    mine = tmp_path / "stockade-demo" / "README.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = stockade("new-plugin", "demo", "--into", str(tmp_path))
    assert done.returncode == 2 and "is there already" in done.stderr
    assert [path.name for path in mine.parent.iterdir()] == ["README.md"]
    assert mine.read_text() == "mine"
    assert stockade("new-plugin", "demo", "--into", str(tmp_path / "none")).returncode == 2


def test_nothing_is_left_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Iterator[tuple[str, str]]:
        yield "README.md", "half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_plugin, "rendered", broken)
    with pytest.raises(OSError, match="No space"):
        write_plugin("demo", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_it_says_what_comes_next_and_whose_the_name_is(tmp_path: Path) -> None:
    done = stockade("new-plugin", "kubernetes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: the project itself publishes a wall 'kubernetes'" in done.stdout
    assert "pip install -e 'stockade-kubernetes[test]'" in done.stdout
    assert (tmp_path / "stockade-kubernetes/src/stockade_kubernetes/py.typed").exists()
    assert (tmp_path / "stockade-kubernetes/.gitignore").exists()


def test_no_placeholder_is_left() -> None:
    for name in ("demo", LONG):
        for path, text in rendered(name):
            assert "{{" not in path + text and "package/" not in path, path


@pytest.mark.parametrize("name", ["demo", "b2-c3", LONG])
def test_it_is_lint_free_and_strictly_typed(name: str, tmp_path: Path) -> None:
    folder, _ = write_plugin(name, str(tmp_path))
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        if name == LONG and command == ["mypy"]:
            continue  # a name changes no type
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_what_it_is_given_and_says_that_it_is_no_wall(beside: dict[str, str]) -> None:
    done = stockade("run", "-p", "plain", "--", "echo", "hi", env=beside)
    assert done.stdout == "hi\n" and done.returncode == 0
    assert done.stderr.splitlines() == [
        "stockade: plain isolates nothing (a plain subprocess: no isolation at all)"
    ]
    printed = stockade("doctor", "-p", "plain", env=beside).stdout
    assert "no isolation at all (isolation: none)" in printed and "memory_mb=none" in printed
    done = stockade("run", "-p", "plain", "--memory", "64", "--", "echo", "hi", env=beside)
    assert done.returncode == 125 and "memory_mb=64 needs memory" in done.stderr


_ALL = """
set -e
cd "$1"
stockade new-plugin demo > written
pip -q install ./stockade-demo
stockade run -p demo -- echo hi
pytest -q > report || { cat report >&2; exit 1; }
tail -n 1 report
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_nothing_to_a_tested_wall(tmp_path: Path) -> None:
    """In a new environment, outside the repository, with core as a wheel."""
    wheels = tmp_path / "wheels"
    pip = ["-m", "pip", "-q"]
    subprocess.run(
        [
            sys.executable,
            *pip,
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(wheels),
            str(ROOT / "core"),
        ],
        check=True,
    )
    (wheel,) = wheels.iterdir()
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run([programs / "python", *pip, "install", f"{wheel}[cli,testing]"], check=True)
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "tmp").mkdir()  # the guards may end with their namespace, before they tidy up
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env.pop("STOCKADE_REPORTS", None)  # its report is no wall's of ours
    env |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    done = subprocess.run(
        [*_process_namespace(), "bash", "-c", _ALL, "bash", str(place)],
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said, report = done.stdout.splitlines()
    assert said == "hi" and "demo isolates nothing" in done.stderr
    assert "failed" not in report and int(report.split(" passed")[0].split()[-1]) >= 40, report


def _process_namespace() -> list[str]:
    """What attacks run loose in the suite, should one ever, end with the namespace."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else []
