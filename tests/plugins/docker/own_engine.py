"""A dockerd of the tests' own, which may be killed, stopped, and given other settings."""

from __future__ import annotations

import contextlib
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

from plugins.docker.conftest import BUSYBOX, until
from stockade_docker import engine as engines


class OwnEngine:
    """A dockerd that listens on a socket in a folder of its own."""

    def __init__(self, folder: str, *options: str, hides: str = "") -> None:
        self.folder = folder
        self.options = options
        self.hides = hides
        self.url = f"unix://{folder}/sock"
        self.string = f"docker:{BUSYBOX}?engine={quote(self.url, safe='')}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Where nobody reaps the orphan, dockerd would take its dead containerd for alive.
        Path(self.folder, "exec/containerd/containerd.pid").unlink(missing_ok=True)
        Path(self.folder, "pid").unlink(missing_ok=True)
        with Path(self.folder, "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._apart(),
                    "dockerd",
                    "--data-root",
                    f"{self.folder}/data",
                    "--exec-root",
                    f"{self.folder}/exec",
                    "--pidfile",
                    f"{self.folder}/pid",
                    "-H",
                    self.url,
                    "--iptables=false",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        up = until(lambda: self.client().ping(), 40)
        assert up, Path(self.folder, "log").read_text()[-3000:]

    def _apart(self) -> list[str]:
        """What gives it a mount namespace in which a folder is another."""
        if not self.hides:
            return []
        line = f'mount -t tmpfs none {self.hides} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", line, "sh"]

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
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if self.folder.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.3)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([m for m in mounts if m.startswith(self.folder)]):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def own_engine(engine: docker.APIClient, *options: str, hides: str = "") -> Iterator[OwnEngine]:
    """One with the busybox image of ``engine``'s; ``options`` are dockerd's.

    ``hides`` is a folder of this machine that it does not see.
    """
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("an engine of one's own needs root and dockerd on the path")
    folder = tempfile.mkdtemp(prefix="stockade-engine-")
    os.chmod(folder, 0o711)
    made = OwnEngine(folder, *options, hides=hides)
    try:
        made.start()
        made.client().load_image(b"".join(engine.get_image(BUSYBOX)))
        yield made
    finally:
        made.end()
