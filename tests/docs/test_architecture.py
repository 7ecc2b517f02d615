"""Every path and every name of a module's that docs/architecture.md gives is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "core" / "src" / "stockade"
TEXT = (REPOSITORY / "docs" / "architecture.md").read_text()
#: In backquotes: a path with a folder or an ending, of the repository or of core.
PATHS = sorted(set(re.findall(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:py|md|c))`", TEXT)))
#: A row's modules, and in brackets names that they have.
NAMED = re.findall(r"`([\w/]+\.py)` \(`(\w+)`(?:, `(\w+)`)?\)", TEXT)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_there(path: str) -> None:
    if path == "plugins/NAME/":
        path = "plugins"
    folders = (REPOSITORY, CORE, REPOSITORY / "docs", REPOSITORY / "tests")
    near = [folder / path for folder in folders]
    assert any(place.exists() for place in near) or list(CORE.rglob(path.rstrip("/"))), path


@pytest.mark.parametrize(("path", "names"), [(path, names) for path, *names in NAMED])
def test_a_module_has_the_names(path: str, names: list[str]) -> None:
    text = (CORE / path).read_text()
    assert all(re.search(rf"^(def |class )?{name}\b", text, re.MULTILINE) for name in names if name)


def test_there_are_some() -> None:
    assert len(PATHS) > 40 and len(NAMED) > 2
