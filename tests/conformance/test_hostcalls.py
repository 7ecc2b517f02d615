"""The tries of hostcalls.py do what they say where nothing stops them: the check can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.testing import hostcalls
from stockade.toolkit.local import seccomp
from stockade.toolkit.local.table import NEWEST, NUMBERS

#: Calls that change something by a path, or by a descriptor that was opened for reading; on
#: every machine, as every user, on every file system.
_CHANGE = {
    "openat",
    "openat2",
    "truncate",
    "renameat2",
    "linkat",
    "symlinkat",
    "unlinkat",
    "mkdirat",
    "mknodat",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "read",
}


def test_E2_each_try_changes_something_outside_of_a_wall(tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    folder.mkdir()
    hostcalls.lay_out(folder)
    before = hostcalls.look(folder)
    done = subprocess.run(
        [sys.executable, "-c", hostcalls.program(str(folder))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers, _ = json.loads(done.stdout)
    assert len(answers) == len(hostcalls.TRIES)
    through = hostcalls.changed(before, hostcalls.look(folder))
    assert {words.partition("(")[0] for words in through} >= _CHANGE, through
    assert len(through) > 30


def test_E2_numbers_that_the_kernel_has_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostcalls, "NEWEST", 423)
    done = subprocess.run(
        [sys.executable, "-c", hostcalls.program(str(tmp_path), tries=False)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert 437 in json.loads(done.stdout)[1] and os.listdir(tmp_path) == []


#: Calls that take a path or a file's descriptor and only look, read or wait.
_ONLY_LOOK = """
access cachestat chdir close close_range dup dup2 dup3 execve execveat faccessat faccessat2
fadvise64 fchdir fdatasync fgetxattr flistxattr flock fstat fstatfs fsync getcwd getdents
getdents64 getxattr getxattrat inotify_add_watch lgetxattr listxattr listxattrat llistxattr lseek
lstat newfstatat pread64 preadv preadv2 read readahead readlink readlinkat readv stat
statfs statx sync sync_file_range syncfs umask
"""


def test_E2_every_call_of_the_kernels_table_was_looked_at() -> None:
    """What local walls allow is tried, or changes no file; the check's numbers are the table's."""
    assert hostcalls.NEWEST == NEWEST
    tried = {one[0].partition(" ")[0] for one in hostcalls.TRIES}
    for name, x86_64, aarch64, _ in hostcalls.TRIES:
        numbers = tuple(-1 if number is None else number for number in NUMBERS[name.split()[0]])
        assert numbers == (x86_64, aarch64), name
    known = tried | set(_ONLY_LOOK.split()) | {"tee", "vmsplice"}  # these are about pipes
    assert {*seccomp._FILES.split(), "fcntl", "ioctl", "mmap", "execve", "execveat"} <= known
