"""What messages say of installing: one function's words, and folders that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stockade.selection._discovery import PUBLISHED
from stockade.system import installing
from stockade.system.installing import DISTRIBUTIONS, install
from stockade.system.own_files import parse_toml

ROOT = Path(__file__).parents[3]
FOLDERS = [ROOT / "core", ROOT / "supervisor", *sorted((ROOT / "plugins").glob("*/"))]
SOURCES = [ROOT / "core/src", ROOT / "supervisor/python", *sorted((ROOT / "plugins").glob("*/src"))]


def ours(folder: Path) -> tuple[str, set[str]]:
    """A distribution's name, and those of the project that it needs."""
    path = folder / "pyproject.toml"
    project = parse_toml(path, path.read_bytes(), "see git")["project"]
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in project["dependencies"]}
    return project["name"], {name for name in names if name in DISTRIBUTIONS}


def test_the_distributions_and_their_needs_are_those_of_the_checkout() -> None:
    stated = {name: set(needs) for name, needs in DISTRIBUTIONS.items()}
    assert stated == dict(
        ours(folder) for folder in FOLDERS if (folder / "pyproject.toml").exists()
    )
    assert set(PUBLISHED.values()) <= set(DISTRIBUTIONS)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_until_a_release_it_is_a_folder_of_the_checkout(name: str) -> None:
    command, _, where = install(name).partition(" (")
    assert where == "in a checkout of stockade)"
    folders = [ROOT / word for word in shlex.split(command)[2:]]
    named = [ours(folder)[0] for folder in folders]
    assert named[-1] == name
    for at, folder in enumerate(folders):  # each has what it needs before it, or is core's
        assert ours(folder)[1] <= {"stockade", *named[:at]}


def test_after_it_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert install("stockade", "cli") == "pip install './core[cli]' (in a checkout of stockade)"
    assert install("elsewhere", upgrade=True) == "pip install --upgrade elsewhere"
    monkeypatch.setattr(installing, "RELEASED", True)
    assert install("stockade-gvisor") == "pip install stockade-gvisor"
    assert install("stockade", "cli") == "pip install 'stockade[cli]'"


def test_no_message_says_so_itself() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in SOURCES
        for path in folder.rglob("*.py")
        if path.name != "installing.py"
        for line in path.read_text().splitlines()
        if re.search(r"pip install .*stockade[-\[]", line)
    ]
    assert found == []
