"""The fragments in changelog.d: each has a name that says its kind, and a text for users."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stockade.system.own_files import parse_toml

ROOT = Path(__file__).parents[2]
_PATH = ROOT / "pyproject.toml"
TOWNCRIER = parse_toml(_PATH, _PATH.read_bytes(), "see git")["tool"]["towncrier"]
KINDS = [kind["directory"] for kind in TOWNCRIER["type"]]
FOLDER = ROOT / TOWNCRIER["directory"]


def wrong(name: str, text: str) -> str:
    """What is wrong with a fragment; empty where it is well-formed."""
    if not re.fullmatch(rf"\+[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md", name):
        return f"name it +SOME-WORDS.KIND.md; the kinds are {', '.join(KINDS)}"
    if (
        not text.endswith(".\n")
        or text != text.strip() + "\n"
        or not text[0].isalnum() | (text[0] == "`")
    ):
        return "it is sentences: from a word to a full stop and the line's end"
    if re.search(r"^([-*#]|\d+\.) ", text, re.MULTILINE) or "\n\n" in text:
        return "it is one paragraph, without headings and lists"
    if max(map(len, text.splitlines())) > 120:
        return "its lines have at most 120 characters"
    return ""


def fragments() -> list[Path]:
    return sorted(path for path in FOLDER.iterdir() if path.name != "README.md")


@pytest.mark.parametrize("path", fragments(), ids=lambda path: path.name)
def test_a_fragment_is_well_formed(path: Path) -> None:
    assert not wrong(path.name, path.read_text())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.md", "Something is new.\n"),
        ("+new.feature.md", "Something is new.\n"),
        ("+New.added.md", "Something is new.\n"),
        ("+new.added.md", "Something is new"),
        ("+new.added.md", "- Something is new.\n"),
        ("+new.added.md", "Something.\n\nIs new.\n"),
        ("+new.added.md", "x" * 121 + ".\n"),
    ],
)
def test_one_that_is_not_is_found(name: str, text: str) -> None:
    assert wrong(name, text)
    assert not wrong("+new-words.added.md", "`run` does something\nnew.\n")


def test_the_page_has_the_place_for_them() -> None:
    assert TOWNCRIER["start_string"] in (ROOT / TOWNCRIER["filename"]).read_text()
