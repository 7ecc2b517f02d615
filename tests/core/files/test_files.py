"""Calls on files: their time, their end, and what callers may hand over (F2, F5, C7)."""

from __future__ import annotations

import asyncio
import io
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import stockade
from core.test_file_backend import Memory
from core.walls import ScriptedSandbox, ScriptedWall, make_provider
from stockade import ConfigError, SessionStatus, aio
from stockade._entries import Entry, Missed, Piece, TreeItem
from stockade.errors import (
    CancelledError,
    FileTooLargeError,
    SandboxLostError,
    SessionStateError,
    TransferError,
)
from stockade.file_backend import FileBackend, FileCall, FileInfo
from stockade.files import Scope, cancellable
from stockade.session import Session


class Deaf(Memory):
    """Hangs in every listing, whatever becomes of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.calls: list[FileCall] = []

    def list(self, path: str, call: FileCall, *, max_entries: int) -> list[FileInfo]:
        self.calls.append(call)
        self.begun.set()
        self.go_on.wait(30)
        return []


@contextmanager
def opened(backend: FileBackend, **config: Any) -> Iterator[Session]:
    class Sandbox(ScriptedSandbox):
        def files(self) -> FileBackend:
            return backend

    wall = ScriptedWall()
    wall.sandbox = Sandbox()
    provider = make_provider(wall=wall, **config)
    with Session(provider, provider.open_record("agent")) as session:
        yield session
        if isinstance(backend, Deaf):
            backend.go_on.set()


def ends(call: Callable[[], object], kind: type[BaseException], seconds: float) -> str:
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        call()
    assert time.monotonic() - began < seconds
    return str(caught.value)


# -- time ------------------------------------------------------------------------


def test_F2_a_caller_is_let_go_of_in_time_whatever_the_backend_does() -> None:
    backend = Deaf()
    with opened(backend) as session:
        said = ends(lambda: session.files.list("d", timeout=0.2), TimeoutError, 2)
        assert "'/workspace/d'" in said and "0.2 s" in said and "timeout" in said
        assert backend.calls[0].cancelled
        assert session.status is SessionStatus.READY


def test_F2_the_time_is_the_sessions_by_default() -> None:
    with opened(Deaf(), timeout_seconds=0.2) as session:
        ends(lambda: session.files.list(), TimeoutError, 2)
        ends(lambda: session.files.get_tree(".", "unused"), TimeoutError, 2)


def test_F2_none_is_no_limit() -> None:
    backend = Deaf()
    with opened(backend, timeout_seconds=0.1) as session:
        threading.Timer(0.5, backend.go_on.set).start()
        assert session.files.list(timeout=None) == []


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), float("inf")])
def test_B2_a_time_that_is_none_is_refused(timeout: Any) -> None:
    with opened(Memory()) as session, pytest.raises(ConfigError, match="timeout="):
        session.files.list(timeout=timeout)


# -- ends ------------------------------------------------------------------------


def elsewhere(backend: Deaf, session: Session) -> tuple[threading.Thread, list[BaseException]]:
    """A listing that has begun in another thread, and what becomes of it."""
    found: list[BaseException] = []

    def run() -> None:
        try:
            session.files.list()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert backend.begun.wait(5)
    return thread, found


def test_C7_who_waits_for_a_file_goes_on_when_the_session_is_ended() -> None:
    backend = Deaf()
    with opened(backend) as session:
        thread, found = elsewhere(backend, session)
        began = time.monotonic()
        session.close()
        thread.join(5)
        assert time.monotonic() - began < 2 and isinstance(found[0], CancelledError)
        with pytest.raises(SessionStateError):
            session.files.list()


def test_D14_who_waits_for_a_file_hears_of_a_lost_sandbox() -> None:
    backend = Deaf()
    with opened(backend) as session:
        thread, found = elsewhere(backend, session)
        session._record.fail("the sandbox died")
        thread.join(5)
        assert isinstance(found[0], SandboxLostError) and "the sandbox died" in str(found[0])


def test_D14_a_backend_that_loses_the_sandbox_fails_the_session() -> None:
    class Lost(Memory):
        def make_dir(self, path: str, call: FileCall) -> None:
            raise SandboxLostError("it is gone")

    with opened(Lost()) as session:
        with pytest.raises(SandboxLostError):
            session.files.make_dir("d")
        assert session.status is SessionStatus.FAILED


def test_C11_a_call_on_files_is_use_of_the_session() -> None:
    backend = Deaf()
    with opened(backend, idle_seconds=0.4) as session:
        thread, found = elsewhere(backend, session)
        time.sleep(1.0)
        assert session.status is SessionStatus.READY
        backend.go_on.set()
        thread.join(5)
        assert not found
        deadline = time.monotonic() + 5
        while session.status is not SessionStatus.DESTROYED and time.monotonic() < deadline:
            time.sleep(0.02)
        assert session.status is SessionStatus.DESTROYED


def test_G2_a_paused_session_serves_no_files() -> None:
    with opened(Memory()) as session:
        session.pause()
        with pytest.raises(SessionStateError, match="paused"):
            session.files.list()
        session.resume()
        assert session.files.list() == []


def test_F2_cancelling_an_await_ends_the_call() -> None:
    backend = Deaf()

    async def main() -> None:
        with opened(backend) as session:
            files = aio.AsyncSession(session).files
            began = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(files.list(), 0.2)
            assert time.monotonic() - began < 2 and backend.calls[0].cancelled
            task = asyncio.create_task(files.get_tree(".", "unused"))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert session.status is SessionStatus.READY

    asyncio.run(main())


def test_F2_a_call_is_cancelled_from_another_thread() -> None:
    backend = Deaf()
    with opened(backend) as session:
        scope = Scope()
        threading.Timer(0.2, scope.cancel).start()
        with cancellable(scope):
            ends(session.files.list, CancelledError, 2)
            ends(session.files.list, CancelledError, 2)  # and every later one
        assert all(call.cancelled for call in backend.calls)
        assert session.status is SessionStatus.READY


def test_the_awaitable_pieces() -> None:
    async def main() -> list[bytes]:
        backend = Memory()
        backend.held["/workspace/f"] = b"x" * (9 << 20)
        with opened(backend) as session:
            files = aio.AsyncSession(session).files
            return [piece async for piece in files.read_pieces("f")]

    assert [len(piece) for piece in asyncio.run(main())] == [8 << 20, 1 << 20]


# -- what is handed over ------------------------------------------------------------


def test_F1_what_can_be_written() -> None:
    backend = Memory()
    with opened(backend) as session:
        for data in (b"ab", bytearray(b"ab"), memoryview(b"ab"), io.BytesIO(b"ab"), [b"a", b"b"]):
            session.files.write("f", data)
            assert backend.held.pop("/workspace/f") == b"ab"
        session.files.write("f", (bytes([byte]) for byte in b"ab"))
        assert session.files.read_text(pathlib.PurePosixPath("f")) == "ab"
        assert session.files.read(pathlib.PureWindowsPath("f")) == b"ab"
        assert list(session.files.read_pieces("f")) == [b"ab"]
        wrong: Any
        for wrong in ("text", 5, None, ["text"], io.StringIO("text")):
            with pytest.raises(ConfigError, match=r"write_text|encode"):
                session.files.write("f", wrong)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (b"f", "not bytes"),
        (5, "not int"),
        (None, "not NoneType"),
        ("", "empty"),
        ("a\0b", "NUL"),
    ],
)
def test_C10_what_is_no_path_is_refused_with_a_reason(path: Any, words: str) -> None:
    with opened(Memory()) as session, pytest.raises(ConfigError, match=words):
        session.files.read(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": True}, "mode="),
        ({"mode": 0o10000}, "mode="),
        ({"mode": "644"}, "mode="),
        ({"offset": -1}, "offset="),
        ({"offset": 1.5}, "offset="),
        ({"offset": 1, "append": True}, "contradict"),
    ],
)
def test_B2_arguments_are_checked(options: dict[str, Any], words: str) -> None:
    with opened(Memory()) as session, pytest.raises(ConfigError, match=words):
        session.files.write("f", b"", **options)


def test_what_a_caller_gives_and_fails_at_is_the_callers_error() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    with opened(Memory()) as session, pytest.raises(KeyError, match="mine"):
        session.files.write("f", broken())


# -- trees -----------------------------------------------------------------------------


class Partly(Memory):
    """A tree of which one entry is missed, and which says more than it was asked for."""

    items: list[TreeItem] = [
        Entry("f", "file", size=3),
        Piece(0, b"one"),
        Missed("p\x1b[31m", "it is a FIFO"),
    ]

    def get_tree(self, path: str, receive: Callable[[TreeItem], None], *_: Any, **__: Any) -> None:
        for item in self.items:
            receive(item)

    def put_tree(self, path: str, items: Any, call: FileCall) -> list[Missed]:
        return [item for item in items if isinstance(item, Missed)]


def test_F4_what_is_missed_is_returned_and_an_error_if_asked(tmp_path: Path) -> None:
    with opened(Partly()) as session:
        (missed,) = session.files.get_tree("d", tmp_path / "one")
        assert missed.reason == "it is a FIFO" and (tmp_path / "one" / "f").read_bytes() == b"one"
        with pytest.raises(TransferError) as caught:
            session.files.get_tree("d", tmp_path / "two", strict=True)
        assert caught.value.missed == (missed,) and (tmp_path / "two" / "f").exists()
        assert "\x1b" not in str(caught.value)
        os.mkfifo(tmp_path / "one" / "fifo")
        assert [one.path for one in session.files.put_tree(tmp_path / "one", "d")] == ["fifo"]
        with pytest.raises(TransferError):
            session.files.put_tree(tmp_path / "one", "d", strict=True)


def test_F4_an_archive_there_and_back() -> None:
    with opened(Partly()) as session:
        archive = session.files.get_archive("d")
        assert len(archive.missed) == 1
        with pytest.raises(TransferError):
            session.files.get_archive("d", strict=True)
    backend = Memory()
    with opened(backend) as session:
        assert session.files.put_archive(archive.data, "new") == []
        assert backend.held == {"/workspace/new/f": b"one"}
        with pytest.raises(stockade.ArchiveError):
            session.files.put_archive(b"x" * 600, "new")


def test_F2_limits_hold_whatever_a_backend_says(tmp_path: Path) -> None:
    backend = Partly()
    backend.items = [Entry(f"f{n}", "file", size=1 << 30) for n in range(3)]
    with opened(backend) as session, pytest.raises(FileTooLargeError, match=str(2 << 30)):
        session.files.get_tree("d", tmp_path / "out", max_bytes=2 << 30)


def test_the_source_of_a_tree_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with opened(Memory()) as session, pytest.raises(NotADirectoryError):
        session.files.put_tree(tmp_path / "f", "d")
