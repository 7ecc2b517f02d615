"""The supervisor's file server and the backend over it, without a sandbox (F1 to F5)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.toolkit.supervised.file_server import Inside, Served
from stockade.errors import FileTooLargeError, SpecialFileError, StockadeError
from stockade.file_backend import FileCall
from stockade.toolkit.supervised.codes import failed

NAMES = ("plain", "with space", "-dash", "quote'\"", "new\nline", "näme-日本", "*", "\udcff\udc80")


# -- one file --------------------------------------------------------------------


def test_F1_names_are_bytes(inside: Inside) -> None:
    for name in NAMES:
        inside.write(f"a/b/{name}", name.encode("utf-8", "surrogateescape"))
    assert set(inside.list("a/b")) == set(NAMES)
    for name in NAMES:
        assert inside.read(f"a/b/{name}") == os.fsencode(name)


def test_F1_a_file_is_replaced_in_place(inside: Inside, tmp_path: Path) -> None:
    inside.write("f", b"long content", mode=0o640)
    os.link(tmp_path / "f", tmp_path / "hard")
    os.symlink("f", tmp_path / "soft")
    inside.write("soft", b"short")
    assert (tmp_path / "hard").read_bytes() == b"short"
    assert (tmp_path / "soft").is_symlink() and inside.stat("f").mode == 0o640


def test_F5_parts_of_files(inside: Inside) -> None:
    inside.write("f", b"0123", b"456789")
    assert inside.read("f", offset=3, length=4) == b"3456"
    assert inside.read("f", offset=8, length=40) == b"89"
    assert inside.read("f", offset=50) == b""
    inside.write("f", b"ab", append=True)
    inside.write("f", b"XY", offset=2)
    assert inside.read("f") == b"01XY456789ab"
    inside.write("hole", b"x", offset=100)
    assert inside.read("hole") == bytes(100) + b"x"


def test_F2_limits(inside: Inside, tmp_path: Path) -> None:
    inside.write("f", b"0123456789")
    assert inside.read("f", max_bytes=10) == b"0123456789"
    assert inside.read("f", offset=5, length=5, max_bytes=5) == b"56789"
    for offset, length in ((0, None), (0, 20), (4, 6)):
        with pytest.raises(FileTooLargeError, match="5 bytes"):
            inside.read("f", offset=offset, length=length, max_bytes=5)
    os.truncate(tmp_path / "f", 100 << 30)
    began = time.monotonic()
    with pytest.raises(FileTooLargeError):
        inside.read("f")
    assert time.monotonic() - began < 2
    # Of a size that is not reported.
    with pytest.raises(FileTooLargeError):
        inside.files.read("/proc/self/status", FileCall(9), offset=0, length=None, max_bytes=9)


@pytest.mark.parametrize("act", ["read", "write", "copy", "copy onto"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "zero", "link to zero", "link to fifo"])
def test_F2_what_is_no_regular_file_is_refused_at_once(
    inside: Inside, tmp_path: Path, act: str, kind: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.symlink("/dev/zero", tmp_path / "link to zero")
    os.symlink("fifo", tmp_path / "link to fifo")
    (tmp_path / "f").write_text("x")
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(tmp_path)  # the path of a socket is short
        bound.bind("socket")
        name = "../../../../../../../../dev/zero" if kind == "zero" else kind
        acts: dict[str, Callable[[], object]] = {
            "read": lambda: inside.read(name),
            "write": lambda: inside.write(name, b"x"),
            "copy": lambda: inside.copy(name, "new"),
            "copy onto": lambda: inside.copy("f", name),
        }
        began = time.monotonic()
        with pytest.raises(SpecialFileError, match="not a regular file"):
            acts[act]()
        assert time.monotonic() - began < 2


def test_F2_a_fifo_with_a_reader_is_refused_too(inside: Inside, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    reader = os.open(tmp_path / "p", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(SpecialFileError):
            inside.write("p", b"x")
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)


def test_F2_errors_are_those_of_local_files(inside: Inside, tmp_path: Path) -> None:
    inside.write("f", b"x")
    inside.write("d/g", b"x")
    os.symlink("loop", tmp_path / "loop")
    for call, kind in (
        (lambda: inside.read("none"), FileNotFoundError),
        (lambda: inside.read("d"), IsADirectoryError),
        (lambda: inside.read("f/x"), NotADirectoryError),
        (lambda: inside.write("d", b""), IsADirectoryError),
        (lambda: inside.write("new/", b""), IsADirectoryError),
        (lambda: inside.write("new/.", b""), IsADirectoryError),
        (lambda: inside.write("f/x", b""), NotADirectoryError),
        (lambda: inside.list("f"), NotADirectoryError),
        (lambda: inside.list("none"), FileNotFoundError),
        (lambda: inside.stat("none"), FileNotFoundError),
        (lambda: inside.remove("none"), FileNotFoundError),
        (lambda: inside.move("none", "x"), FileNotFoundError),
        (lambda: inside.copy("none", "x"), FileNotFoundError),
        (lambda: inside.copy("d", "f"), FileExistsError),
        (lambda: inside.files.make_dir(inside.path("f"), FileCall(9)), FileExistsError),
        (lambda: inside.files.make_dir(inside.path("f/x"), FileCall(9)), NotADirectoryError),
        (lambda: inside.remove("d"), OSError),
        (lambda: inside.read("loop"), OSError),
        (lambda: inside.read("n" * 300), OSError),
        (lambda: inside.read("n/" * 3000), OSError),
        (lambda: inside.write("n/" * 3000 + "x", b""), OSError),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, OSError) and str(tmp_path) in str(caught.value.filename)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [1, 13, 30])
def test_F2_no_right_is_a_permission_error(number: int) -> None:
    with pytest.raises(PermissionError) as caught:
        failed(number, "/usr/x")
    assert caught.value.errno == number and caught.value.filename == "/usr/x"


@pytest.mark.parametrize(("code", "words"), [(137, "signal 9"), (210, "damaged"), (99, "99")])
def test_a_file_server_that_fails_says_so(code: int, words: str) -> None:
    with pytest.raises(StockadeError, match=words):
        failed(code, "/x")


def test_F1_fifty_mebibytes_and_more(tmp_path: Path) -> None:
    inside = Inside(tmp_path, Served(sanitized=False))
    block = os.urandom(1 << 20)
    inside.write("f", *[block] * 300)
    assert inside.stat("f").size == 300 << 20
    assert inside.read("f", offset=299 << 20) == block


# -- what is there -----------------------------------------------------------------


def test_F5_all_that_is_known_of_an_entry(inside: Inside, tmp_path: Path) -> None:
    inside.write("f", b"12345", mode=0o4640)
    os.symlink("f", tmp_path / "l")
    os.mkfifo(tmp_path / "p")
    os.utime(tmp_path / "f", ns=(0, 1_234_567_890_123_456_789))
    found = inside.list()
    owner = (os.getuid(), os.getgid())
    info = found["f"]
    assert (info.kind, info.size, info.mode) == ("file", 5, 0o4640)
    assert (info.uid, info.gid) == owner and info.modified_ns == 1_234_567_890_123_456_789
    assert found["l"].kind == "link" and found["l"].target == "f"
    assert found["p"].kind == "other" and found["p"].target is None
    assert inside.stat("l").kind == "link" and inside.stat("l", follow=True).size == 5


def test_F4_a_listing_is_one_command_and_bounded(inside: Inside, tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"f{number}").touch()
    before = len(inside.served.argvs)
    assert len(inside.list()) == 3000
    assert len(inside.served.argvs) == before + 1
    with pytest.raises(FileTooLargeError, match="2999 entries"):
        inside.list(max_entries=2999)
