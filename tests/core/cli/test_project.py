"""Whose files are read, and what is said of the others (cli.project)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from stockade.cli import project
from stockade.errors import ConfigError

NAMES_ONE = '[tool.stockade]\nprovider = "landlock"\n'


def find(folder: Path) -> tuple[str | None, list[str]]:
    notes: list[str] = []
    found = project.find(folder, notes.append)
    assert found is None or found.restricted
    return None if found is None else found.label, notes


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is another user's than the one whose files it finds."""
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 4321)
    status = os.fstat

    def as_user(descriptor: int) -> os.stat_result:
        return changed(status(descriptor), st_uid=mine + 1 if mine == 0 else mine)

    monkeypatch.setattr(os, "fstat", as_user)


def changed(info: os.stat_result, *, st_uid: int) -> os.stat_result:
    fields = list(info[:10])
    fields[4] = st_uid
    return os.stat_result(fields)


def test_own_files_and_roots_are_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(NAMES_ONE)
    assert find(tmp_path) == ("landlock", [])


def test_the_servers_table_in_the_file_is_none_of_its_business(tmp_path: Path) -> None:
    table = '[serve.templates.base]\nprovider = "docker:x"\n'
    (tmp_path / "stockade.toml").write_text(table)
    assert find(tmp_path) == (None, [])
    (tmp_path / "stockade.toml").write_text(f'provider = "landlock"\n{table}')
    assert find(tmp_path) == ("landlock", [])


@pytest.mark.usefixtures("foreign")
def test_another_users_file_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    """As one that somebody left in /tmp, above the folder in which one stands."""
    (tmp_path / "pyproject.toml").write_text(NAMES_ONE)
    below = tmp_path / "below"
    below.mkdir()
    label, notes = find(below)
    assert label is None
    assert len(notes) == 1 and "it belongs to user" in notes[0]


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("text", ["[project]\nname = 'x'\n", "[tool.stockade\n", "# stockade\n"])
def test_nothing_is_said_of_another_users_file_that_names_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert find(tmp_path) == (None, [])


def test_a_file_that_everybody_may_write_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "stockade.toml"
    file.write_text('provider = "landlock"\n')
    file.chmod(0o666)
    label, notes = find(tmp_path)
    assert label is None and "everybody may write to it" in notes[0]
    file.chmod(0o664)  # a group of one's own is usual
    assert find(tmp_path) == ("landlock", [])


def test_where_users_have_no_numbers_every_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where a file's mode lets everybody write."""
    (tmp_path / "stockade.toml").write_text('provider = "landlock"\n')
    (tmp_path / "stockade.toml").chmod(0o666)
    monkeypatch.delattr(os, "geteuid")
    assert find(tmp_path) == ("landlock", [])


def test_links_to_another_users_file_and_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real.toml").write_text('provider = "landlock"\n')
    (tmp_path / "stockade.toml").symlink_to("real.toml")
    assert find(tmp_path) == ("landlock", [])
    theirs = os.geteuid() + 1
    for name in ("fstat", "lstat"):
        honest: Any = getattr(os, name)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda at, honest=honest: changed(honest(at), st_uid=theirs))
            label, notes = find(tmp_path)
        assert label is None and f"it belongs to user {theirs}" in notes[0], name


def test_a_file_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "stockade.toml").write_text('provider = "landlock"\n')
    monkeypatch.setattr(os, "open", refused)
    label, notes = find(tmp_path)
    assert label is None and f"{tmp_path / 'stockade.toml'} is not used: Permission denied" in notes


def test_python_without_toml_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.10 has none; the extra of the command line brings it."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    assert find(tmp_path) == (None, [])
    (tmp_path / "pyproject.toml").write_text(NAMES_ONE)
    with pytest.raises(ConfigError, match=r"needs tomli.*pip install '\./core\[cli\]'"):
        find(tmp_path)


def test_a_file_that_the_user_names_says_all_that_a_string_may(tmp_path: Path) -> None:
    path = tmp_path / "any.toml"
    path.write_text('provider = "docker:busybox?memory_mb=4096&network_enabled=true"')
    found = project.named_by(path)
    assert found is not None and not found.restricted
    path.write_text("")
    assert project.named_by(path) is None
    path.write_text("provider = 7")
    with pytest.raises(ConfigError, match="a string or a list of strings"):
        project.named_by(path)
    with pytest.raises(FileNotFoundError):
        project.named_by(tmp_path / "none.toml")
