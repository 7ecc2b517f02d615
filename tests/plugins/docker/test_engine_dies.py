"""An engine of the tests' own: killed in mid-execution, restarted, its image removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import docker
import pytest

import stockade
from plugins.docker.conftest import BUSYBOX, ours, until
from stockade.errors import DestroyError, SandboxLostError, StockadeError
from stockade.results import SessionStatus, Stream
from stockade_docker import engine as engines

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
]


class OwnEngine:
    """A dockerd that listens on a socket in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/sock"
        self.string = f"docker:{BUSYBOX}?engine={quote(self.url, safe='')}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Where nobody reaps the orphan, dockerd would take its dead containerd for alive.
        Path(self.folder, "exec/containerd/containerd.pid").unlink(missing_ok=True)
        Path(self.folder, "pid").unlink(missing_ok=True)
        with Path(self.folder, "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", "--data-root", f"{self.folder}/data", "--exec-root",
                 f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid", "-H", self.url,
                 "--iptables=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        up = until(lambda: self.client().ping(), 40)
        assert up, Path(self.folder, "log").read_text()[-3000:]

    def client(self) -> docker.APIClient:
        return engines.client(self.url)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        if how in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait(30)
            engines.forget()

    def end(self) -> None:
        """Stop it, and what it left: its own containerd too."""
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)
        subprocess.run(["pkill", "-9", "-f", self.folder], check=False)
        time.sleep(0.3)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([m for m in mounts if m.startswith(self.folder)]):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def own(engine: docker.APIClient) -> Iterator[OwnEngine]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("an engine of one's own needs root and dockerd on the path")
    folder = tempfile.mkdtemp(prefix="stockade-engine-")
    os.chmod(folder, 0o711)
    made = OwnEngine(folder)
    try:
        made.start()
        made.client().load_image(b"".join(engine.get_image(BUSYBOX)))
        yield made
    finally:
        made.end()


def test_killed_and_restarted_in_mid_execution(own: OwnEngine) -> None:
    session = stockade.open(own.string)
    running = session.start(shell="echo so far; sleep 60")
    assert until(lambda: running._output.total(Stream.STDOUT))
    began = time.monotonic()
    own.kill()
    with pytest.raises(SandboxLostError, match="engine") as caught:
        running.result(30)
    assert time.monotonic() - began < 20
    assert caught.value.partial is not None and caught.value.partial.stdout == "so far\n"
    with pytest.raises(DestroyError):
        session.close()  # nobody can say that it is gone (C6)
    assert session.status is SessionStatus.FAILED
    with pytest.raises(StockadeError):
        stockade.open(own.string)
    own.start()
    session.close()
    assert not ours(own.client())
    with stockade.open(own.string) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"


def test_an_engine_that_answers_no_more(own: OwnEngine) -> None:
    """Stopped, not dead: deadlines hold all the same."""
    with stockade.open(own.string) as session:
        session.run(["true"])
        running = session.start(["sleep", "60"], timeout=2)
        own.kill(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert running.result(30).killed
            assert time.monotonic() - began < 20
        finally:
            own.kill(signal.SIGCONT)


def test_the_image_removed_under_a_session(own: OwnEngine) -> None:
    with stockade.open(own.string) as session:
        own.client().remove_image(BUSYBOX, force=True)
        assert session.run(["echo", "hi"]).stdout == "hi\n"
    with pytest.raises(StockadeError, match="pull=never"):
        stockade.open(own.string + "&pull=never")
