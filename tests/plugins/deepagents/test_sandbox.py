"""The backend by itself: commands, files, opening, what it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from deepagents.backends import protocol
from deepagents.backends.protocol import SandboxBackendProtocol

import stockade
from conftest import need
from plugins.other_versions import said_first
from stockade_deepagents import TESTED, StockadeBackend, StockadeSandbox
from stockade_deepagents.opening import AGENT


@pytest.fixture(scope="module")
def sandbox() -> Iterator[StockadeSandbox]:
    need("landlock")
    with stockade.open("landlock", agent_id=AGENT) as session:
        yield StockadeSandbox(session)


def test_it_is_a_sandbox_to_the_framework(sandbox: StockadeSandbox) -> None:
    assert isinstance(sandbox, SandboxBackendProtocol)
    assert sandbox.id == sandbox.session.session_id


def test_both_streams_in_the_order_in_which_they_came(sandbox: StockadeSandbox) -> None:
    done = sandbox.execute("echo a; echo b >&2; echo c; exit 7")
    assert (done.output, done.exit_code, done.truncated) == ("a\nb\nc\n", 7, False)


def test_more_than_is_kept_loses_its_middle(sandbox: StockadeSandbox) -> None:
    done = sandbox.execute("echo first; head -c 12000000 /dev/zero | tr '\\0' x; echo last")
    assert done.truncated and done.output.startswith("first\n") and done.output.endswith("last\n")
    assert "bytes left out" in done.output and len(done.output) < 11_000_000


@pytest.mark.parametrize("timeout", [None, 0])
def test_the_session_s_deadline_stands(timeout: int | None) -> None:
    """A model may pass 0, which the framework lets mean none."""
    need("landlock")
    with stockade.open("landlock", timeout_seconds=1) as short:
        late = StockadeSandbox(short).execute("echo so far; sleep 1000", timeout=timeout)
        assert late.exit_code == 124
        assert late.output == "so far\n[timed out after 1 seconds; all that it started was ended]"


def test_out_of_memory_is_said(sandbox: StockadeSandbox) -> None:
    with stockade.open("landlock?memory_mb=64") as small:
        done = StockadeSandbox(small).execute("python3 -c 'x = bytes(10**9); x = bytearray(x)'")
    assert done.exit_code != 0
    assert "memory_mb" in done.output or "MemoryError" in done.output


def test_a_cancelled_await_ends_the_command(sandbox: StockadeSandbox) -> None:
    async def cancelled() -> None:
        line = "setsid sh -c 'while :; do date +%s%N > /workspace/beat; sleep 0.05; done' & wait"
        task = asyncio.ensure_future(sandbox.aexecute(line, timeout=600))
        while not sandbox.session.files.exists("/workspace/beat"):
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    before = sandbox.session.files.read("/workspace/beat")
    time.sleep(0.3)
    assert sandbox.session.files.read("/workspace/beat") == before


def test_each_file_has_its_own_answer(sandbox: StockadeSandbox) -> None:
    sandbox.execute("mkdir -p folder; echo x > locked; chmod 0 locked; mkfifo pipe")
    there = "/workspace/"
    put = sandbox.upload_files([(there + "new/a", b"1"), ("b", b"2"), ("/etc/c", b"3")])
    assert [one.error for one in put] == [None, "invalid_path", "permission_denied"]
    names = ["new/a", "none", "folder", "locked", "pipe"]
    got = sandbox.download_files([there + name for name in names] + ["a\0b", "/a\0b"])
    assert [one.error for one in got[:4]] == [
        None,
        "file_not_found",
        "is_directory",
        "permission_denied",
    ]
    assert got[0].content == b"1"
    assert "not a regular file" in str(got[4].error)
    assert [one.error for one in got[5:]] == ["invalid_path", "invalid_path"]


def test_awaited_file_calls(sandbox: StockadeSandbox) -> None:
    async def calls() -> None:
        path = "/workspace/awaited"
        assert (await sandbox.aupload_files([(path, b"\0\xff")]))[0].error is None
        assert (await sandbox.adownload_files([path]))[0].content == b"\0\xff"

    asyncio.run(calls())


@pytest.mark.skipif(not hasattr(protocol, "DeleteResult"), reason="deepagents 0.6 deletes nothing")
def test_deleting(sandbox: StockadeSandbox) -> None:
    async def calls() -> None:
        sandbox.execute("mkdir -p tree/deep; echo x > tree/deep/f; ln -s /etc tree/out")
        assert (await sandbox.adelete("/workspace/tree")).path == "/workspace/tree"
        assert not sandbox.session.files.exists("tree")
        assert "not found" in str((await sandbox.adelete("/workspace/tree")).error)
        assert "permission_denied" in str(sandbox.delete("/etc/passwd").error)

    asyncio.run(calls())


def test_names_that_only_look_like_artefacts(sandbox: StockadeSandbox) -> None:
    assert sandbox.placed("/large_tool_results/x") == "/workspace/large_tool_results/x"
    assert sandbox.placed("/blobs") == "/workspace/blobs"
    for path in ("/blobsfeld/x", "/tmp/blobs/x", "/workspace/large_tool_results/x"):
        assert sandbox.placed(path) == path


# -- opening -------------------------------------------------------------------


def test_opened_and_closed_awaited() -> None:
    need("landlock")

    async def opened() -> None:
        async with await StockadeBackend.aopen("landlock?memory_mb=128") as backend:
            assert backend.session.provider.config.memory_mb == 128
            assert backend.session.provider.config.lifetime_seconds is None
            assert (await backend.aexecute("echo hi")).output == "hi\n"
        assert str(backend.session.status) == "destroyed"

    asyncio.run(opened())


def test_a_stated_lifetime_stands() -> None:
    need("landlock")
    with StockadeBackend.open("landlock?lifetime_seconds=99") as backend:
        assert backend.session.provider.config.lifetime_seconds == 99
    with StockadeBackend.open("landlock", lifetime_seconds=98) as backend:
        assert backend.session.provider.config.lifetime_seconds == 98


@pytest.mark.parametrize("image", ["busybox", "python"])
def test_an_image_without_a_whole_python_is_refused_with_those_that_can(image: str) -> None:
    """The second has one without its standard library, as Debian's python3-minimal is."""
    need("docker")
    before = len(stockade.default_runtime().registry.records())
    with pytest.raises(stockade.UnsupportedError, match=r"no python3.*Here these can: .*docker"):
        StockadeBackend.open(f"docker:stockade-test/{image}")
    assert len(stockade.default_runtime().registry.records()) == before


def test_a_wall_that_cannot_hold_what_is_asked() -> None:
    need("landlock")
    with pytest.raises(stockade.UnsupportedError, match="Here these can: ") as caught:
        StockadeBackend.open("landlock", read_only_fs=False)
    assert "landlock" not in str(caught.value).partition("Here these can: ")[2]


def test_whether_it_may_be_tried_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = stockade.ProviderUnavailableError("gone for good.")
    gone.retryable = False

    def opened(*_: object, **__: object) -> None:
        raise gone

    monkeypatch.setattr(stockade, "open", opened)
    with pytest.raises(stockade.ProviderUnavailableError, match="for good. Here these") as caught:
        StockadeBackend.open("landlock")
    assert not caught.value.retryable


def test_a_wrong_string_is_no_matter_of_walls() -> None:
    with pytest.raises(stockade.ProviderNotFoundError) as caught:
        StockadeBackend.open("landlok")
    assert "Here these can" not in str(caught.value)


def test_a_durable_one_is_attached_to() -> None:
    need("docker")
    with StockadeBackend.open("docker:stockade-test/work?pull=never", durable=True) as backend:
        backend.write("/workspace/a", "kept\n")
        backend.session.detach()
        with StockadeBackend.attach(backend.id) as again:
            assert again.execute("cat a").output == "kept\n"


def test_an_untested_version_is_warned_of_with_both_numbers() -> None:
    said_first(
        "stockade-deepagents",
        "deepagents",
        TESTED,
        imports="stockade_deepagents",
        module="deepagents",
    )
