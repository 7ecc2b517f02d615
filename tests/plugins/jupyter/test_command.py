"""``stockade jupyter install``, and the page."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from click.testing import CliRunner

from conftest import need
from plugins.jupyter.kernels import data, install, opened
from stockade.cli.examples import examples_of
from stockade_jupyter import provisioner
from stockade_jupyter.command import jupyter

__all__ = ["data"]

pytestmark = [
    pytest.mark.timeout(240),
    # Jupyter's own: sockets and loops of clients that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "jupyter.md").read_text()


def spec(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "kernels" / name / "kernel.json").read_text())
    return found


def test_a_kernelspec_holds_what_was_said(data: Path) -> None:
    name = install(
        data, "landlock", "--memory", "700", "--display-name", "Mine", "--lifetime", "60"
    )
    found = spec(data, name)
    assert found["display_name"] == "Mine" and found["language"] == "python"
    config = found["metadata"]["kernel_provisioner"]["config"]  # type: ignore[index]
    assert config["provider"] == "landlock"
    fields = config["fields"]
    assert (fields["memory_mb"], fields["lifetime_seconds"]) == (700, 60.0)
    assert all(read_only for _, _, read_only in fields["mounts"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-p", "landlock", "--python", "/bin/true"], None),
        (["-p", "landlock", "--python", "/bin/false"], "starts no kernel behind landlock"),
        (["-p", "landlock?read_only_fs=false"], "writable-root.*Here these can: "),
        (["-p", "nowhere"], "nowhere"),
        (["-p", "landlock", "--mount", "/etc"], "/etc"),
        (["landlock"], "write: .*-p landlock"),
    ],
)
def test_what_cannot_start_is_not_installed(data: Path, words: list[str], says: str | None) -> None:
    need("landlock")
    done = CliRunner().invoke(jupyter, ["install", "--user", "--name", "new", *words])
    made = (data / "kernels" / "new").exists()
    assert (done.exit_code == 0, made) == (says is None, says is None), done.output
    if says is not None:
        assert re.search(says, done.output, re.DOTALL), done.output


@pytest.mark.parametrize("line", examples_of(jupyter.commands["install"]))
def test_an_example_of_the_help_runs(data: Path, line: str) -> None:
    need("landlock")
    words = shlex.split(line)
    assert words[:2] == ["stockade", "jupyter"] and "--user" in words
    done = CliRunner().invoke(jupyter, words[2:])
    assert done.exit_code == 0, done.output
    assert list((data / "kernels").glob("*/kernel.json"))


def test_another_version_is_warned_of_with_both_numbers(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = install(data, "landlock")
    monkeypatch.setattr(provisioner, "_TESTED", ("7.0.0", "7.1.0"))
    with opened(name):
        pass
    assert "tested with jupyter-client 7.0.0 to 7.1.0, and 8." in caplog.text


def test_the_page_s_commands(data: Path, tmp_path: Path) -> None:
    need("landlock")
    [block] = re.findall(r"```sh\n(stockade jupyter.*?)```", PAGE, re.DOTALL)
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook["cells"] = [
        {
            "cell_type": "code",
            "id": "a",
            "source": "6 * 7",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ]
    (tmp_path / "notebook.ipynb").write_text(json.dumps(notebook))
    programs = Path(sys.executable).parent
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        words += ["--user"] if words[1] == "jupyter" else []
        done = subprocess.run(
            [str(programs / words[0]), *words[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    done_text = (tmp_path / "notebook.ipynb").read_text()
    assert '"42"' in done_text


def test_the_page_s_options_are_there() -> None:
    [install_command] = jupyter.commands.values()
    options = {word for one in install_command.params for word in one.opts}
    assert set(re.findall(r"`(--[a-z][a-z-]+)", PAGE)) <= options | {"--inplace"}


@pytest.mark.parametrize("number", provisioner._TESTED)
def test_the_versions_are_the_same_everywhere(number: str) -> None:
    assert number in PAGE
    assert number in (ROOT / "plugins" / "jupyter" / "README.md").read_text()
    assert f"jupyter-client=={number}" in (ROOT / "tox.ini").read_text()
    assert any(">=8.10" in one for one in requires("stockade-jupyter") or ())
