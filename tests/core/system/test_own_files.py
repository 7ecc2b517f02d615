"""Files that decide something: whose they are, and how much of them is read (system.own_files).

Foreign owners and links are in ``tests/core/cli/test_project.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.errors import ConfigError
from stockade.system.own_files import parse_toml, read_own


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_own(tmp_path / "pipe", group_writes=True) == (b"", "it is no file")
    assert read_own(tmp_path, group_writes=True) == (b"", "it is no file")


def test_who_else_may_write(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a = 1")
    remedy = f"may write to it; run: chmod go-w {file}"
    for mode, narrow, wide in (
        (0o644, "", ""),
        (0o664, f"its group {remedy}", ""),
        (0o666, f"everybody {remedy}", f"everybody {remedy}"),
    ):
        file.chmod(mode)
        assert read_own(file, group_writes=False) == (b"a = 1", narrow)
        assert read_own(file, group_writes=True) == (b"a = 1", wide)


def test_a_file_that_is_too_long_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    data, _ = read_own(file, group_writes=True)
    assert len(data) == (1 << 20) + 1
    with pytest.raises(ConfigError, match=r"larger than 1048576 bytes; mend it, or stand aside\."):
        parse_toml(file, data, "stand aside")


@pytest.mark.parametrize("data", [b"a =", b"\xff", b"a = " + b"[" * 100_000])
def test_what_is_no_toml_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"x is no TOML: .*; mend it, or stand aside\."):
        parse_toml("x", data, "stand aside")
