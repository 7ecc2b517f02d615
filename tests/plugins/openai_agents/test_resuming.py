"""Archives of the workspace, and sandboxes that are gone on with."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from agents.sandbox import LocalSnapshotSpec, Manifest
from agents.sandbox.entries import File
from agents.sandbox.errors import (
    WorkspaceArchiveWriteError,
)
from agents.sandbox.session import SandboxSession

import stockade
from conftest import need
from plugins.openai_agents.sandboxes import BEATING, IMAGE, WALLS, beats, within
from stockade_openai_agents import StockadeSandboxClient

# -- the workspace -------------------------------------------------------------------


@pytest.mark.parametrize("wall", WALLS)
def test_persist_and_hydrate(wall: str) -> None:
    manifest = Manifest(
        entries={"kept": File(content=b"k"), "passing": File(content=b"p", ephemeral=True)}
    )

    async def work(session: SandboxSession) -> None:
        make = "mkdir d; echo x > d/f; chmod 755 d/f; ln -s d/f link; mkfifo pipe; ln d/f same"
        await session.exec(f"{make}; ln -s /usr/bin/env outside")
        archive = await session.persist_workspace()
        with tarfile.open(fileobj=archive) as found:
            names = {name.removeprefix("./") for name in found.getnames()}
        assert {"kept", "d/f", "link"} <= names and not {"passing", "pipe"} & names
        archive.seek(0)
        await session.exec("rm -rf d kept link same outside")
        await session.hydrate_workspace(archive)
        line = "cat kept d/f link; test -x d/f && readlink link outside; test d/f -ef same"
        done = await session.exec(line)
        assert (done.stdout, done.exit_code) == (b"kx\nx\nd/f\n/usr/bin/env\n", 0)

    within(wall, work, manifest=manifest)


def test_an_archive_that_leads_out_is_refused() -> None:
    def archive(name: str, **fields: Any) -> io.BytesIO:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            member = tarfile.TarInfo(name)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(b""))
        made.seek(0)
        return made

    async def work(session: SandboxSession) -> None:
        for bad in (
            archive("../out"),
            archive("/etc/out"),
            archive("same", type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
            io.BytesIO(b"no archive at all"),
        ):
            with pytest.raises(WorkspaceArchiveWriteError):
                await session.hydrate_workspace(bad)

    within("landlock", work)


# -- resuming ----------------------------------------------------------------------------


def test_a_durable_one_is_gone_on_with() -> None:
    need("docker")

    async def whole() -> None:
        client = StockadeSandboxClient(IMAGE)
        session = await client.create()
        async with session:
            await session.exec(f"echo kept > a; nohup sh -c '{BEATING}' > /dev/null 2>&1 &")
        payload = json.loads(json.dumps(client.serialize_session_state(session.state)))
        other = StockadeSandboxClient("landlock")  # what is there is what it was made as
        resumed = await other.resume(other.deserialize_session_state(payload))
        try:
            async with resumed:
                assert resumed.state.sandbox_id == session.state.sandbox_id  # type: ignore[attr-defined]
                assert (await resumed.exec("cat a")).stdout == b"kept\n"
                assert await beats(resumed), "what ran in it runs on"
        finally:
            await other.delete(resumed)
        with pytest.raises(stockade.ConfigError, match=r"docker.*'landlock'"):
            await other.resume(other.deserialize_session_state(payload))

    asyncio.run(whole())


def test_where_the_durable_one_does_not_start_the_next_is_taken() -> None:
    need("docker")
    need("landlock")

    async def work() -> None:
        client = StockadeSandboxClient("docker:no/such-image?pull=never | landlock")
        made = await client.create()
        inner: Any = made._inner
        assert inner.session.provider.name == "landlock" and not inner.state.durable
        await client.delete(made)

    asyncio.run(work())


def test_one_that_is_gone_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    need("landlock")

    async def whole() -> None:
        client = StockadeSandboxClient("landlock")
        session = await client.create(snapshot=LocalSnapshotSpec(base_path=tmp_path))
        async with session:
            await session.exec("echo kept > a")
        await client.delete(session)
        state = client.deserialize_session_state(client.serialize_session_state(session.state))
        resumed = await client.resume(state)
        try:
            async with resumed:
                assert (await resumed.exec("cat a")).stdout == b"kept\n"
        finally:
            await client.delete(resumed)

    asyncio.run(whole())


def test_a_state_that_was_changed_opens_no_other_wall() -> None:
    need("landlock")

    async def whole() -> None:
        client = StockadeSandboxClient("landlock")
        session = await client.create()
        await client.delete(session)
        payload = client.serialize_session_state(session.state)
        payload["provider"] = "landlock?network_enabled=true"
        with pytest.raises(stockade.ConfigError, match="network_enabled"):
            await client.resume(client.deserialize_session_state(payload))

    asyncio.run(whole())


def test_deleting_twice_and_without_having_started() -> None:
    need("landlock")

    async def whole() -> None:
        before = len(stockade.default_runtime().registry.records())
        client = StockadeSandboxClient("landlock")
        session = await client.create()
        await client.delete(session)
        await client.delete(session)
        assert len(stockade.default_runtime().registry.records()) == before

    asyncio.run(whole())
