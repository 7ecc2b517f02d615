"""The README's picture of a terminal: what its commands print, drawn by its script."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "hooks" / "terminal.py"


def text(picture: Path) -> list[str]:
    """The lines in a picture, with each number of seconds as N."""
    found = ET.fromstring(picture.read_text())
    lines = ["".join(line.itertext()) for line in found.iter("{http://www.w3.org/2000/svg}text")]
    return [re.sub(r"after [\d.]+ s", "after N s", line) for line in lines]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl is installed")
def test_the_picture_is_what_a_run_prints(tmp_path: Path, landlock: str) -> None:
    made = tmp_path / "terminal.svg"
    subprocess.run([sys.executable, str(SCRIPT), str(made)], check=True)
    assert text(made) == text(ROOT / "docs" / "terminal.svg"), f"run: python {SCRIPT}"


def test_the_picture_is_small_and_needs_nothing_else() -> None:
    picture = (ROOT / "docs" / "terminal.svg").read_text()
    assert len(picture) < 4_000
    assert "url(" not in picture and "<script" not in picture and "href" not in picture
    assert int(re.search(r'<svg [^>]*width="(\d+)"', picture)[1]) < 900  # type: ignore[index]
    assert "](docs/terminal.svg)" in (ROOT / "README.md").read_text()
