"""The code blocks of the README and the documentation run as they stand.

A block that cannot run here is marked in the comment line before it:
``<!-- no-run: reason -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
#: Run as a whole, each page in one folder: test_howto.py.
HOW_TO = ROOT / "docs" / "how-to"
BLOCK = re.compile(
    r"(?:<!-- no-run: (?P<why>[^>]+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL
)


def blocks() -> list[pytest.param]:  # type: ignore[valid-type]
    found = []
    for page in PAGES:
        if page.parent == HOW_TO:
            continue
        for number, match in enumerate(BLOCK.finditer(page.read_text()), 1):
            if match["kind"] in ("python", "console") and not match["why"]:
                name = f"{page.relative_to(ROOT)}:{number}"
                found.append(pytest.param(match["kind"], match["text"], id=name))
    return found


@pytest.mark.parametrize(("kind", "text"), blocks())
def test_block(kind: str, text: str, landlock: str, tmp_path: Path) -> None:
    for wall in ("docker", "gvisor"):
        if f"{wall}:" in text:
            need(wall)
    if "bubblewrap" in text:
        need("bubblewrap")
    # No registry is asked in the tests: an image of theirs stands for the one on the page.
    text = text.replace("python:3.12-slim", "stockade-test/python")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if kind == "python":
        command = [sys.executable, "-W", "error", "-c", text]
    else:
        lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        command = ["bash", "-ec", "\n".join(lines)]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    if kind == "console":
        expected = "".join(f"{x}\n" for x in text.splitlines() if not x.startswith("$ "))
        assert done.stdout == expected


def test_there_are_blocks_and_links_lead_somewhere() -> None:
    assert len(blocks()) >= 8
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
