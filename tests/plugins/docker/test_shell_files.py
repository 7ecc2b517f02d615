"""Files by the programs of an image, GNU's and busybox's: the way of walls that serve none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import stockade
from stockade.errors import FileTooLargeError, SpecialFileError, StockadeError
from stockade.executions._execution import Execution
from stockade.files._shell import ShellFiles
from stockade.files._snapshots import restore
from stockade.session import Session

pytestmark = pytest.mark.engine

LONG_AGO = 1_234_567_890


@pytest.fixture(params=["python", "busybox"])
def session(request: pytest.FixtureRequest, engine: str) -> Iterator[Session]:
    """With its files by its own programs, though its supervisor would serve them."""
    string = f"docker:stockade-test/{request.param}?pull=never"
    with stockade.open(string, agent_id="shell-files", timeout_seconds=30) as opened:
        opened.files._backend = ShellFiles(opened.start)
        yield opened


def test_F1_F5_content_and_parts(session: Session) -> None:
    files = session.files
    for name in ("plain", "with space", "-dash", "quote'\"", "new\nline", "näme-日本", "*"):
        files.write(f"a/b/{name}", name.encode())
        assert files.read(f"a/b/{name}") == name.encode()
    assert len(files.list("a/b")) == 7
    files.write("f", b"0123456789")
    files.write("f", b"ab", append=True)
    files.write("f", b"XY", offset=2)
    assert files.read("f") == b"01XY456789ab" and files.read("f", offset=3, length=4) == b"Y456"
    block = os.urandom(1 << 20)
    files.write("/tmp/big", (block for _ in range(70)))
    files.write("/tmp/big", b"mark", offset=(65 << 20) + 1)
    assert files.read("/tmp/big", offset=(65 << 20) + 1, length=4) == b"mark"
    assert files.stat("/tmp/big").size == 70 << 20


def test_F2_refusals(session: Session) -> None:
    files = session.files
    session.shell("mkfifo p; ln -s /dev/zero z; mkdir d; echo x > f; truncate -s 100G big")
    for path in ("p", "z"):
        for call in (lambda p=path: files.read(p), lambda p=path: files.write(p, b"x")):
            with pytest.raises(SpecialFileError):
                call()
    with pytest.raises(FileTooLargeError):
        files.read("big", timeout=5)
    with pytest.raises(FileTooLargeError):
        files.get_tree(".", "unused", timeout=5)
    for path, kind in (
        ("none", FileNotFoundError),
        ("d", IsADirectoryError),
        ("f/x", NotADirectoryError),
        ("/usr/bin/x", FileNotFoundError),
    ):
        with pytest.raises(kind):
            files.read(path)
    with pytest.raises(IsADirectoryError):
        files.write("new/", b"")
    with pytest.raises(PermissionError):
        files.write("/usr/x", b"")


def test_F4_trees(session: Session, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "sub" / "one").write_bytes(b"same")
    (source / "sub" / "one").chmod(0o640)
    os.link(source / "sub" / "one", source / "two")
    os.symlink("sub/one", source / "link")
    (source / "sub").chmod(0o555)
    for path in (source / "two", source / "sub" / "deep", source / "sub"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    os.mkfifo(source / "p")
    try:
        assert [one.path for one in session.files.put_tree(source, "t")] == ["p"]
        session.shell("cd t && mkfifo q && : > closed && chmod 0 closed")
        missed = {one.path for one in session.files.get_tree("t", back)}
        assert missed == {"q", "closed"}
        assert os.path.samefile(back / "two", back / "sub" / "one")
        assert (back / "sub").stat().st_mode & 0o777 == 0o555
        assert int((back / "sub").stat().st_mtime) == LONG_AGO
        assert int((back / "sub" / "deep").stat().st_mtime) == LONG_AGO
    finally:
        for folder in (source, back):
            if (folder / "sub").exists():
                (folder / "sub").chmod(0o755)
    info = session.files.stat("t/link")
    assert (info.kind, info.target) == ("link", "sub/one")
    assert session.files.stat("t/link", follow_links=True).size == 4


def test_F5_moves_and_copies(session: Session) -> None:
    files = session.files
    files.write("d/f", b"x", mode=0o640)
    assert files.copy("d", "e") == [] and files.copy("d/f", "deep/f") == []
    assert files.stat("deep/f").mode == 0o640
    files.move("d", "/tmp/away/d")
    assert files.read("/tmp/away/d/f") == b"x" and not files.exists("d")
    with pytest.raises(FileExistsError):
        files.copy("e", "deep")
    with pytest.raises(FileNotFoundError):
        files.move("none", "x")
    files.write("full/f", b"")
    with pytest.raises(OSError, match="not empty"):
        files.move("e", "full")


def test_G1_a_snapshot(session: Session) -> None:
    session.shell(
        "mkdir -p d; echo one > d/f; ln d/f d/g; chmod 700 d; echo two > /tmp/t; mkfifo p"
    )
    snapshot = session.snapshot()
    assert [one.path for one in snapshot.missed] == ["workspace/p"]
    session.shell("rm -r d /tmp/t")
    restore(session.files, snapshot)
    seen = session.shell("cat d/f /tmp/t; [ d/f -ef d/g ] && stat -c %a d").stdout
    assert seen == "one\ntwo\n700\n"


def test_C10_a_program_that_is_missing_is_named(session: Session) -> None:
    def start(argv: Sequence[str], **options: Any) -> Execution:
        return session.start(["sh", "-c", "no-such-tar"], **options)

    session.files._backend = ShellFiles(start)
    with pytest.raises(StockadeError, match=r"lacks a program.*no-such-tar"):
        session.files.get_tree(".", "unused")
