"""A server that the hostile tests share, and what it must be like after each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest

from plugins.server.serving import Caller, Made, Served, create, made_key, serving

__all__ = ["IDLE_SECONDS", "Target", "place", "target"]

IDLE_SECONDS = 2  #: in the server's file
_GROWTH = 48  #: MiB that a server may take on over all of a test's requests


@attrs.frozen
class Target:
    served: Served
    made: Made

    def figures(self) -> tuple[float, int]:
        """MiB, and descriptors."""
        process = Path(f"/proc/{self.served.process.pid}")
        line = next(x for x in (process / "status").read_text().splitlines() if "VmRSS" in x)
        return int(line.split()[1]) / 1024, len(list((process / "fd").iterdir()))

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """It goes on as before, with no more memory or descriptors."""
        memory, descriptors = self.figures()
        yield
        until = time.monotonic() + 6 * IDLE_SECONDS
        while self.figures()[1] > descriptors + 5:
            assert time.monotonic() < until, self.figures()
            time.sleep(0.2)
        assert self.figures()[0] < memory + _GROWTH
        self.made.rpc("filesystem.Filesystem/MakeDir", {"path": "whole"})
        assert self.made.rpc("filesystem.Filesystem/Stat", {"path": "whole"})[0] == 200


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    file = tmp_path_factory.mktemp("hostile") / "stockade.toml"
    file.write_text(
        f"[serve]\nidle_seconds = {IDLE_SECONDS}\nmax_body_bytes = 100000\n"
        "max_upload_bytes = 1000000\nmax_commands = 8\n"
        '[serve.templates.base]\nprovider = "local?lifetime_seconds=1200"\n'
    )
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        caller = Caller(served.url, key)
        yield Target(served, create(caller, timeout=1000))


def place(target: Target) -> tuple[str, int]:
    url = urlsplit(target.served.url)
    return url.hostname or "", url.port or 0
