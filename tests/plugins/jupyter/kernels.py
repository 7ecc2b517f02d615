"""Kernels behind each wall, installed as a user installs them, and cells that run there."""

from __future__ import annotations

import contextlib
import gc
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from conftest import need
from stockade_jupyter.command import jupyter

__all__ = ["Notebook", "install", "opened"]


def install(folder: Path, wall: str, *more: str) -> str:
    """The kernel's name; in ``folder``, for tests alone (JUPYTER_DATA_DIR is there)."""
    need(wall)
    words = ["install", "-p", wall, "--user", "--name", f"test-{wall}", *more]
    if wall in ("docker", "gvisor"):
        site = sysconfig.get_path("purelib")
        words[2] = f"{wall}:stockade-test/work"
        words += ["--mount", f"{site}:/opt/site", "--env", "PYTHONPATH=/opt/site"]
    done = CliRunner().invoke(jupyter, words)
    assert done.exit_code == 0, done.output
    assert (folder / "kernels" / f"test-{wall}" / "kernel.json").exists()
    return f"test-{wall}"


class Notebook:
    """A kernel and a client of it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def run(self, code: str) -> tuple[str, str]:
        """How the cell ended, and what it printed."""
        printed = []

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self.client.execute_interactive(code, timeout=60, output_hook=hook)
        return str(reply["content"]["status"]), "".join(printed)


@contextlib.contextmanager
def opened(name: str, **options: Any) -> Iterator[Notebook]:
    """Start it, and shut it down at the end."""
    manager, client = start_new_kernel(kernel_name=name, startup_timeout=120, **options)
    try:
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Jupyter's folder of these tests; what Jupyter leaves open is collected here."""
    for name in ("DATA", "RUNTIME", "CONFIG"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    yield tmp_path / "data"
    gc.collect()
