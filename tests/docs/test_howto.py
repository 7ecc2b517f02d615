"""Each how-to page does its job: every block runs, in order, as its reader would have it.

``STOCKADE_HOWTO=fresh`` (``tox -e howto``) does it from nothing: a clone of the repository, an
environment that the page itself makes, packages from the index.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import need
from docs import howto

FRESH = os.environ.get("STOCKADE_HOWTO") == "fresh"
WALLS = ("bubblewrap", "docker", "gvisor", "kata", "kubernetes", "landlock")


def _needed(page: Path) -> None:
    """Skip what cannot run here, with the reason."""
    for name in howto.needs(page):
        if name == "fresh":
            if not FRESH:
                pytest.skip("it downloads packages; `tox -e howto` runs it")
        elif name in WALLS:
            need(name)
        elif not FRESH and importlib.util.find_spec(name) is None:
            pytest.skip(f"it needs the package {name}; `tox -e howto` runs it")


def _environment(folder: Path) -> dict[str, str]:
    """The reader's variables: a home of their own, and nothing of this run."""
    home = folder / "home"
    home.mkdir()
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STOCKADE_", "PYTEST_", "COV_")) and name != "PYTHONPATH"
    }
    env |= {"HOME": str(home), "STOCKADE_GC": "off"}
    if FRESH:
        checkout = folder / "checkout"
        subprocess.run(["git", "clone", "-q", str(howto.ROOT), checkout], check=True)
        return env | {"CHECKOUT": str(checkout)}
    tools = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    return env | tools | {"PATH": f"{howto.layered(folder / 'layer')}:{os.environ['PATH']}"}


@pytest.mark.timeout(660)
@pytest.mark.parametrize("page", howto.PAGES, ids=lambda page: page.stem)
def test_page(page: Path, landlock: str, tmp_path: Path) -> None:
    _needed(page)
    # No registry of images is asked: one of the tests' own stands for the page's.
    text = page.read_text().replace("python:3.12-slim", "stockade-test/python")
    page = tmp_path / page.name
    page.write_text(text)
    differs = howto.run(page, tmp_path, _environment(tmp_path), fresh=FRESH)
    if differs:
        pytest.fail("\n\n".join(differs), pytrace=False)


@pytest.mark.parametrize("page", howto.PAGES, ids=lambda page: page.stem)
def test_each_block_is_run_or_says_why_not(page: Path) -> None:
    odd = [
        block.number
        for block in howto.blocks(page)
        if block.runs and not block.file and block.kind not in ("python", "console", "sh")
    ]
    assert odd == [], f"{page.name}: blocks that are neither run nor marked"
    unopened = re.findall(r"^```", page.read_text(), re.MULTILINE)
    assert len(unopened) % 2 == 0, f"{page.name}: a block is not closed"


@pytest.mark.parametrize("page", howto.PAGES, ids=lambda page: page.stem)
def test_what_is_installed_is_in_the_repository(page: Path) -> None:
    for block in howto.blocks(page):
        if block.kind == "sh" and block.runs:
            for word in re.findall(r'(?<=[\s"])\./([\w./-]+)', block.text):
                assert (howto.ROOT / word / "pyproject.toml").is_file(), f"{page.name}: {word}"


@pytest.mark.parametrize("page", howto.PAGES, ids=lambda page: page.stem)
def test_each_page_has_its_parts(page: Path) -> None:
    if page.stem == "README":
        return
    text = page.read_text()
    assert text.startswith("# ") and "\n## If it fails\n" in text, page.name
    listed = (howto.ROOT / "docs" / "README.md").read_text()
    assert f"(how-to/{page.name})" in listed
    assert f"how-to/{page.name}" in (howto.ROOT / "mkdocs.yml").read_text()


def test_what_is_shown_is_compared() -> None:
    assert howto.same("1 passed in …s\n", "1 passed in 0.02s\n")
    assert not howto.same("1 passed in …s\n", "1 failed in 0.02s\n")
    assert not howto.same("", "stockade: refused\n")
    text = "$ echo a \\\n> b\na b\n"
    assert howto.typed(text) == ["echo a \\", "b"] and howto.shown(text) == "a b\n"
