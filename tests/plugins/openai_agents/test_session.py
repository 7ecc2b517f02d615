"""The sandbox session by itself: commands, files, what a manifest asks."""

from __future__ import annotations

import asyncio
import io
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from agents.sandbox import ExecTimeoutError, ExecTransportError, Manifest
from agents.sandbox.errors import (
    ExposedPortUnavailableError,
    InvalidManifestPathError,
    WorkspaceArchiveReadError,
    WorkspaceReadNotFoundError,
)
from agents.sandbox.manifest import Environment
from agents.sandbox.session import SandboxSession
from agents.sandbox.types import User
from agents.sandbox.workspace_paths import SandboxPathGrant

import stockade
from plugins.openai_agents.sandboxes import IMAGE, WALLS, within
from stockade_openai_agents import StockadeSandboxClient, StockadeSandboxClientOptions

# -- commands ------------------------------------------------------------------


@pytest.mark.parametrize("wall", WALLS)
def test_commands(wall: str) -> None:
    async def work(session: SandboxSession) -> None:
        done = await session.exec("echo $WORD; echo err >&2; pwd; exit 3")
        assert (done.stdout, done.stderr) == (b"a word\n/workspace\n", b"err\n")
        assert done.exit_code == 3
        plain = await session.exec("printf", "%s", "a b", shell=False)
        assert plain.stdout == b"a b"
        assert (await session.exec("no-such-program", shell=False)).exit_code == 127
        with pytest.raises(ExecTimeoutError) as caught:
            await session.exec("sleep 1000", timeout=0.5)
        assert caught.value.timeout_s == 0.5

    within(wall, work, manifest=Manifest(environment=Environment(value={"WORD": "a word"})))


def test_a_command_without_a_deadline_gets_the_session_s() -> None:
    async def work(session: SandboxSession) -> None:
        with pytest.raises(ExecTimeoutError) as caught:
            await session.exec("sleep 1000")
        assert caught.value.timeout_s == 1

    within("landlock", work, timeout_seconds=1)


def test_more_than_is_kept_loses_its_middle() -> None:
    async def work(session: SandboxSession) -> None:
        line = "echo first; head -c 12000000 /dev/zero | tr '\\0' x; echo last"
        out = (await session.exec(line)).stdout
        assert out.startswith(b"first\n") and out.endswith(b"last\n")
        assert b"bytes left out" in out and len(out) < 11_000_000

    within("landlock", work)


@pytest.mark.parametrize("user", ["root", User(name="somebody")])
def test_another_user_is_refused_and_no_sudo_runs(user: str | User) -> None:
    async def work(session: SandboxSession) -> None:
        for call in (
            lambda: session.exec("id", user=user),
            lambda: session.pty_exec_start("id", user=user),
            lambda: session.read(Path("a"), user=user),
            lambda: session.write(Path("a"), io.BytesIO(b""), user=user),
            lambda: session.mkdir("d", user=user),
            lambda: session.rm("a", user=user),
            lambda: session.ls(".", user=user),
        ):
            with pytest.raises(stockade.UnsupportedError, match="one unprivileged user"):
                await call()

    within("landlock", work)


def test_a_sandbox_that_ended() -> None:
    async def work(session: SandboxSession) -> None:
        inner: Any = session._inner
        await inner.session.close()
        assert not await session.running()
        with pytest.raises(ExecTransportError, match="session"):
            await session.exec("true")
        with pytest.raises(ExecTransportError):
            await session.pty_exec_start("true")

    within("landlock", work)


# -- files -----------------------------------------------------------------------


@pytest.mark.parametrize("wall", WALLS)
def test_files(wall: str) -> None:
    async def work(session: SandboxSession) -> None:
        await session.write(Path("new folder/b.bin"), io.BytesIO(bytes(range(256)) * 10_000))
        found = await session.read(Path("new folder/b.bin"))
        assert found.read() == bytes(range(256)) * 10_000
        assert await session.read_bounded(Path("new folder/b.bin"), max_bytes=3) == b"\0\1\2"
        assert [one.path for one in await session.ls("new folder")] == [
            "/workspace/new folder/b.bin"
        ]
        await session.mv("new folder/b.bin", "moved")
        await session.rm("moved")
        with pytest.raises(WorkspaceReadNotFoundError):
            await session.read(Path("moved"))
        with pytest.raises(WorkspaceArchiveReadError):
            await session.read(Path("new folder"))

    within(wall, work)


@pytest.mark.parametrize("wall", WALLS)
def test_paths_stay_in_the_workspace(wall: str) -> None:
    async def work(session: SandboxSession) -> None:
        await session.exec("ln -s /etc out; ln -s /etc/passwd passwd")
        for path in ("../etc/passwd", "/etc/passwd", "out/passwd", "passwd"):
            with pytest.raises(InvalidManifestPathError):
                await session.read(Path(path))
        with pytest.raises(InvalidManifestPathError):
            await session.write(Path("out/x"), io.BytesIO(b"x"))

    within(wall, work)


# -- what a manifest asks --------------------------------------------------------------------


def test_a_port_is_led_to() -> None:
    async def work(session: SandboxSession) -> None:
        serve = "echo served > index.html; exec python3 -m http.server 8000"
        await session.pty_exec_start(serve, yield_time_s=0.3)
        end = await session.resolve_exposed_port(8000)
        until = time.monotonic() + 30
        while True:
            try:
                got = await asyncio.to_thread(_fetched, end.url_for("http"))
                break
            except OSError:
                assert time.monotonic() < until
                await asyncio.sleep(0.2)
        assert got == b"served\n"
        with pytest.raises(ExposedPortUnavailableError):
            await session.resolve_exposed_port(8001)

    options = StockadeSandboxClientOptions(exposed_ports=(8000,))
    within(IMAGE, work, options=options, network_enabled=True)


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def test_the_root_and_a_granted_folder_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("by the host\n")
    grant = SandboxPathGrant(path="/given", host_path=str(tmp_path), read_only=True)

    async def work(session: SandboxSession) -> None:
        done = await session.exec("pwd; cat /given/given; touch /given/x || echo refused")
        assert done.stdout == b"/somewhere\nby the host\nrefused\n"
        assert (await session.read(Path("/given/given"))).read() == b"by the host\n"

    within("landlock", work, manifest=Manifest(root="/somewhere", extra_path_grants=(grant,)))
    assert not (tmp_path / "x").exists()


def test_users_are_refused_before_anything_is_opened() -> None:
    client = StockadeSandboxClient("landlock")
    manifest = Manifest(users=[User(name="somebody")])
    with pytest.raises(stockade.ConfigError, match="users or groups"):
        asyncio.run(client.create(manifest=manifest))
