"""An engine that is slow, cuts off, hangs, has a full disk or is restarted under sessions.

Each fault gives a typed error in bounded time, and once it is over everything works again
without help.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import docker
import pytest

import stockade
from plugins.docker.conftest import BUSYBOX, ours, until
from plugins.docker.own_engine import OwnEngine, own_engine
from stockade.errors import DestroyError, SandboxLostError, SandboxStartError, StockadeError
from stockade.results import SessionStatus, Verdict
from stockade.sessions._runtime import Runtime
from stockade_docker import engine as engines

pytestmark = [pytest.mark.engine, pytest.mark.slow]


class Proxy:
    """A socket before the engine's that delays, cuts or refuses what goes through."""

    def __init__(self, folder: str, engine: str) -> None:
        self.path = f"{folder}/proxy"
        self.string = f"docker:{BUSYBOX}?engine={quote(f'unix://{self.path}', safe='')}"
        self.delay = 0.0  #: seconds for each piece, each way
        self.piece = 65536  #: bytes that pass at once
        self.cut_after: int | None = None  #: bytes from the engine, then the connection breaks
        self._engine = engine
        self._live: set[socket.socket] = set()
        self.listen()

    def listen(self) -> None:
        """Be there, or be there again."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        listener = self._listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(64)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def stop_listening(self) -> None:
        """Be gone, with every connection: nobody answers there."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_all()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(self._engine)
            self._live |= {ours, theirs}
            threading.Thread(target=self._carry, args=(ours, theirs), daemon=True).start()

    def _carry(self, ours: socket.socket, theirs: socket.socket) -> None:
        to = {ours: theirs, theirs: ours}
        passed, reading = 0, [ours, theirs]
        with ours, theirs, contextlib.suppress(OSError, ValueError):
            while reading:
                ready, _, _ = select.select(reading, [], [], 60)
                for source in ready:
                    data = source.recv(self.piece)
                    if not data:
                        reading.remove(source)
                        to[source].shutdown(socket.SHUT_WR)
                        continue
                    time.sleep(self.delay)
                    if source is theirs:
                        passed += len(data)
                        if self.cut_after is not None and passed > self.cut_after:
                            return
                    to[source].sendall(data)
        self._live -= {ours, theirs}

    def break_all(self) -> None:
        """Every connection that is open ends at once."""
        for live in list(self._live):
            with contextlib.suppress(OSError):
                live.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(engine: docker.APIClient) -> Iterator[Proxy]:
    path = str(engine.base_url).partition("unix://")[2] or "/var/run/docker.sock"
    if not os.path.exists(path):
        path = "/var/run/docker.sock"
    folder = tempfile.mkdtemp(prefix="stockade-proxy-")
    made = Proxy(folder, path)
    try:
        yield made
    finally:
        engines.forget()
        made.stop_listening()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_slow_engine_is_slow_and_no_more(proxy: Proxy, engine: docker.APIClient) -> None:
    before = ours(engine)
    proxy.delay, proxy.piece = 0.02, 600
    with stockade.open(proxy.string) as session:
        data = bytes(range(256)) * 40
        assert session.run(["cat"], stdin=data).stdout_bytes == data
        late = session.shell("echo so far; sleep 60", timeout=1.5)
        assert late.verdict is Verdict.TIMED_OUT and late.stdout == "so far\n"
        assert late.duration_seconds < 6
        assert session.run(["echo", "hi"]).stdout == "hi\n"
    assert until(lambda: ours(engine) <= before)


@pytest.mark.parametrize("bytes_", [0, 40, 150, 400, 900, 2000])
def test_an_engine_that_cuts_off_in_mid_answer(
    proxy: Proxy, engine: docker.APIClient, bytes_: int
) -> None:
    """Wherever it breaks while a session is made: a typed error, and then it works again."""
    before = ours(engine)
    with stockade.open(proxy.string):
        pass  # the client has connected, so that it is the creation that is cut
    proxy.break_all()
    proxy.cut_after = bytes_
    began = time.monotonic()
    try:
        with stockade.open(proxy.string) as session:
            session.run(["true"])
    except StockadeError as error:
        assert str(error)
    assert time.monotonic() - began < 60
    proxy.cut_after = None
    proxy.break_all()
    # What was made and could not be removed then has ended by itself: its input is gone.
    for container in ours(engine) - before:
        assert until(lambda c=container: not _runs(engine, c), 15)  # type: ignore[misc]
        engine.remove_container(container, force=True)
    with stockade.open(proxy.string) as session:
        assert session.run(["echo", "hi"]).stdout == "hi\n"


def _runs(engine: docker.APIClient, container: str) -> bool:
    try:
        return bool(engine.inspect_container(container)["State"]["Running"])
    except docker.errors.NotFound:
        return False


def test_connections_that_break_under_a_session(proxy: Proxy, engine: docker.APIClient) -> None:
    before = ours(engine)
    session = stockade.open(proxy.string)
    running = session.start(shell="echo so far; sleep 60")
    assert until(lambda: running._output.total(stockade.Stream.STDOUT))
    proxy.break_all()
    began = time.monotonic()
    with pytest.raises(SandboxLostError) as caught:
        running.result(30)
    assert time.monotonic() - began < 20
    assert caught.value.partial is not None and caught.value.partial.stdout == "so far\n"
    session.close()
    assert until(lambda: ours(engine) <= before)
    with stockade.open(proxy.string) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"


@pytest.mark.parametrize("known", [True, False])
def test_an_engine_that_comes_back_in_a_moment_is_asked_again(proxy: Proxy, known: bool) -> None:
    """An opening that had not begun is repeated, so a short absence is not even seen: whether
    it is the probe that finds nobody, or the creation."""
    with stockade.open(proxy.string):
        pass
    runtime = stockade.default_runtime()
    if not known:
        runtime.selector.probing.seen.clear()
        engines.forget()
    proxy.stop_listening()
    threading.Timer(0.15, proxy.listen).start()
    before = runtime.settings
    runtime.settings = before.with_(start_retries=10)
    try:
        with stockade.open(proxy.string) as session:
            assert session.run(["echo", "hi"]).stdout == "hi\n"
    finally:
        runtime.settings = before


def test_an_engine_that_is_gone_is_not_taken_for_an_image_without_a_shell(proxy: Proxy) -> None:
    with stockade.open(proxy.string):
        pass
    proxy.stop_listening()
    with pytest.raises(SandboxStartError) as caught:
        stockade.open(proxy.string)
    assert caught.value.retryable and caught.value.nothing_began
    assert "shell" not in str(caught.value)


# -- an engine of the tests' own -----------------------------------------------------------


@pytest.fixture(scope="module")
def own(engine: docker.APIClient) -> Iterator[OwnEngine]:
    with own_engine(engine) as made:
        yield made


def test_an_engine_that_hangs_while_sessions_are_made_and_ended(
    own: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "REQUEST_SECONDS", 2)  # in place of 30
    engines.forget()
    session = stockade.open(own.string)
    runtime = Runtime(discover_plugins=False)
    own.kill(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StockadeError) as caught:
            stockade.open(own.string, runtime=runtime, startup_timeout_seconds=2)
        assert time.monotonic() - began < 40 and caught.value.retryable
        began = time.monotonic()
        with pytest.raises(DestroyError):
            session.close()
        assert time.monotonic() - began < 45
        assert session.status is SessionStatus.FAILED
        began = time.monotonic()
        stockade.default_runtime().close_all(2)
        assert time.monotonic() - began < 15
    finally:
        own.kill(signal.SIGCONT)
    session.close()  # it is tried again, and works
    with stockade.open(own.string) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"
    # What was being made when nobody waited any more is removed by itself.
    assert until(lambda: not ours(own.client()), 60)


def test_an_engine_restarted_under_live_sessions(own: OwnEngine) -> None:
    sessions = [stockade.open(own.string) for _ in range(3)]
    running = [session.start(["sleep", "60"]) for session in sessions]
    own.kill(signal.SIGTERM)
    began = time.monotonic()
    for execution in running:
        with contextlib.suppress(SandboxLostError):
            assert execution.result(40).killed
    assert time.monotonic() - began < 40
    with pytest.raises(StockadeError):
        stockade.open(own.string)
    own.start()
    for session in sessions:
        with pytest.raises(StockadeError):
            session.run(["true"])
        session.close()
    assert not ours(own.client())
    with stockade.open(own.string) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"


def test_an_engine_without_room(engine: docker.APIClient) -> None:
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    disk = tempfile.mkdtemp(prefix="stockade-disk-")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,mode=711", "stockade-disk", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with own_engine(engine, "--data-root", f"{disk}/data") as own:
            _without_room(own, Path(disk))
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
        shutil.rmtree(disk, ignore_errors=True)


def _without_room(own: OwnEngine, disk: Path) -> None:
    live = stockade.open(own.string)
    filler = disk / "filler"
    # Unbuffered: what did not fit is not tried again when the file is closed.
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    began = time.monotonic()
    with pytest.raises(SandboxStartError) as caught:
        stockade.open(own.string)
    assert time.monotonic() - began < 60 and "space" in str(caught.value)
    assert live.run(["echo", "hi"]).stdout == "hi\n"  # whose sandbox is there already
    live.close()
    filler.unlink()
    with stockade.open(own.string) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"
    assert until(lambda: not ours(own.client()))
