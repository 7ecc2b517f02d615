"""Executions of one session apart from each other, and what their domains leave as it is (D16)."""

from __future__ import annotations

import pytest

from stockade import Session
from stockade.toolkit.local import landlock

#: What is looked at while it runs; its shell is the program.
_LATER = "echo $$ > pid; exec sleep 30"
_REACH = """
import os
pid = open("pid").read().strip()
for path, flags in (("fd/1", os.O_WRONLY), ("mem", os.O_RDWR), ("environ", os.O_RDONLY)):
    try:
        os.open(f"/proc/{pid}/{path}", flags)
        print(path)
    except PermissionError:
        pass
"""
_OWN = "import subprocess, sys\nsys.exit(subprocess.call(['sh', '-c', 'cat /proc/$PPID/environ']))"
_MOVE = """
import os
for folder in ("one", "two"):
    os.mkdir(folder)
open("one/file", "w").close()
os.rename("one/file", "two/file")
os.link("two/file", "one/file")
os.rename("one", "two/one")
print(sorted(os.listdir("two")))
"""


@pytest.fixture(autouse=True)
def _domains() -> None:
    if landlock.abi() < 2:
        pytest.skip("this kernel has no Landlock that lets files be moved")


def test_D16_one_execution_opens_nothing_of_another(session: Session) -> None:
    session.start(["sh", "-c", _LATER])
    while not session.shell("cat pid 2>/dev/null").stdout.strip():
        pass
    for seen in (
        session.run(["python3", "-c", _REACH]),
        session.code(_REACH),
        session.code(_REACH, state="kept"),
    ):
        assert (seen.stdout, seen.exit_code) == ("", 0)


def test_all_of_one_execution_is_open_to_it(session: Session) -> None:
    """As a debugger needs it: here a program of its own to its child."""
    for seen in (session.run(["python3", "-c", _OWN]), session.code(_OWN)):
        assert seen.exit_code == 0, seen


def test_files_are_moved_and_linked_between_folders(session: Session) -> None:
    right = "['file', 'one']\n"
    assert session.run(["python3", "-c", _MOVE]).stdout == right
    session.shell("rm -r two")
    assert session.code(_MOVE).stdout == right
    session.shell("rm -r two")
    assert session.code(_MOVE, state="kept").stdout == right


def test_named_bash_has_its_streams(session: Session) -> None:
    """Which it opens by their names in /proc: so it is in no domain of its own."""
    session.code("x=1", language="bash", state="kept")
    assert session.code("echo $x", language="bash", state="kept").stdout == "1\n"
