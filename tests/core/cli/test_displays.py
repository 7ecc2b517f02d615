"""``stockade run --state``: the value for people, pictures as files, all of it as JSON (D20)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from core.cli.test_cli import run
from stockade.cli import displays
from stockade.results import Display, SandboxResult

DRAW = """
class Picture:
    def __repr__(self): return "picture\\x1b[31m"
    def _repr_png_(self): return b"\\x89PNG"
print("printed")
display(Picture())
Picture()
"""


def test_the_value_and_pictures(landlock: str, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    done = run("run", "-p", landlock, "--state", "n", "--pictures", str(folder), "--code", DRAW)
    lines = done.stdout.decode().splitlines()
    assert lines == [
        "printed",
        "picture\\x1b[31m",
        str(folder / "picture-1.png"),
        "picture\\x1b[31m",
        str(folder / "picture-2.png"),
    ], done
    assert (folder / "picture-2.png").read_bytes() == b"\x89PNG"


def test_as_json(landlock: str) -> None:
    shown = json.loads(
        run("run", "-p", landlock, "--json", "--state", "n", "--code", DRAW + "1 / 0").stdout
    )
    assert shown["value"] is None and shown["exit_code"] == 1
    (picture,) = shown["displays"]
    assert base64.b64decode(picture["image/png"]) == b"\x89PNG"
    assert shown["error"]["name"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    "words", [["--state", "n", "--", "true"], ["--pictures", "x", "--code", "1"]]
)
def test_what_is_for_code_alone(words: list[str]) -> None:
    done = run("run", *words)
    assert done.returncode == 2 and b"--state" in done.stderr


def test_no_file_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "picture-1.png").symlink_to(elsewhere)
    result = SandboxResult(exit_code=0, value=Display({"image/png": b"new"}))
    displays.show(result, str(tmp_path))
    assert not elsewhere.exists()
    assert capsys.readouterr().out == f"{tmp_path / 'picture-2.png'}\n"
