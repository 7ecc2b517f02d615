"""The unmodified Python SDK of E2B, which knows nothing of stockade, drives the server."""

from __future__ import annotations

import io
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plugins.server.serving import PORT_PROGRAM, Served, at_host

e2b = pytest.importorskip("e2b", reason="e2b is not installed (tox -e server)")


@pytest.fixture(scope="module")
def sandbox(served: Served) -> Iterator[Any]:
    made = e2b.Sandbox.create(timeout=300, metadata={"of": "the module"})
    yield made
    made.kill()


# -- sandboxes ---------------------------------------------------------------------


def test_a_sandbox_is_made_found_kept_and_ended(served: Served) -> None:
    made = e2b.Sandbox.create(timeout=120, metadata={"task": "a b&c"}, envs={"COLOUR": "blue"})
    assert made.is_running()
    info = made.get_info()
    assert info.sandbox_id == made.sandbox_id and info.metadata == {"task": "a b&c"}
    assert info.memory_mb == 512 and info.cpu_count == 1 and info.template_id == "base"
    before = info.end_at
    made.set_timeout(240)
    assert (made.get_info().end_at - before).total_seconds() > 100
    same = e2b.Sandbox.connect(made.sandbox_id)
    assert same.commands.run("echo $COLOUR").stdout == "blue\n"
    assert made.kill() and not made.is_running()
    assert not e2b.Sandbox.kill(made.sandbox_id)
    with pytest.raises(e2b.exceptions.SandboxException):
        made.commands.run("true")


def test_listing_filters_and_has_pages(served: Served) -> None:
    made = [
        e2b.Sandbox.create(timeout=60, metadata={"row": "listing", "n": str(n)}) for n in range(3)
    ]
    try:
        query = e2b.SandboxQuery(metadata={"row": "listing"})
        pages = e2b.Sandbox.list(query=query, limit=2)
        first = pages.next_items()
        assert len(first) == 2 and pages.has_next
        rest = pages.next_items()
        assert not pages.has_next
        found = [one.metadata["n"] for one in first + rest]
        assert found == ["2", "1", "0"]  # the newest first
        one = e2b.Sandbox.list(query=e2b.SandboxQuery(metadata={"n": "1"})).next_items()
        assert [each.sandbox_id for each in one] == [made[1].sandbox_id]
    finally:
        for each in made:
            each.kill()


def test_a_sandbox_ends_at_its_timeout(served: Served) -> None:
    made = e2b.Sandbox.create(timeout=1)
    until = time.monotonic() + 20
    while made.is_running():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_paused_sandbox_answers_nobody_until_it_is_connected_to(served: Served) -> None:
    made = e2b.Sandbox.create(timeout=120)
    try:
        made.files.write("kept", "kept")
        try:
            made.pause()
        except e2b.exceptions.SandboxException as error:
            assert "501" in str(error)
            pytest.skip(f"the wall cannot pause: {error}")
        assert not made.is_running()
        assert e2b.Sandbox.get_info(made.sandbox_id).state == e2b.SandboxState.PAUSED
        again = made.connect()
        assert again.files.read("kept") == "kept"
    finally:
        made.kill()


def test_what_is_not_served_is_refused_by_name(served: Served, sandbox: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: e2b.Sandbox.create("nowhere"),
        lambda: e2b.Sandbox.create(timeout=10_000_000),
        lambda: e2b.Sandbox.create(network={"deny_out": ["8.8.8.8"]}),
        lambda: e2b.Sandbox.create(network={"allow_out": ["1.1.1.1"], "deny_out": ["0.0.0.0/0"]}),
        lambda: sandbox.update_network({}),
        lambda: sandbox.pause(keep_memory=False),
        lambda: sandbox.commands.run("id", user="root"),
        lambda: sandbox.files.read("x", user="root"),
    ]
    for call in calls:
        with pytest.raises(e2b.exceptions.SandboxException):
            call()


# -- commands ----------------------------------------------------------------------


def test_commands_in_the_foreground(sandbox: Any) -> None:
    result = sandbox.commands.run("echo out; echo err >&2", envs={"A": "1"}, cwd="/tmp")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 0)
    assert sandbox.commands.run("echo $A; pwd", envs={"A": "1"}, cwd="/tmp").stdout == "1\n/tmp\n"
    with pytest.raises(e2b.CommandExitException) as raised:
        sandbox.commands.run("echo so far; exit 7")
    assert raised.value.exit_code == 7 and raised.value.stdout == "so far\n"


def test_output_comes_live_and_whole(sandbox: Any) -> None:
    came: list[tuple[float, str]] = []
    begun = time.monotonic()
    sandbox.commands.run(
        "echo one; sleep 1; echo two", on_stdout=lambda text: came.append((time.monotonic(), text))
    )
    assert [text for _, text in came] == ["one\n", "two\n"] and came[1][0] - came[0][0] > 0.5
    assert begun < came[0][0]
    longer = sandbox.commands.run("head -c 5000000 /dev/zero | tr '\\0' x")
    assert len(longer.stdout) == 5_000_000


def test_a_command_ends_at_its_deadline(sandbox: Any) -> None:
    with pytest.raises(e2b.TimeoutException):
        sandbox.commands.run("sleep 120 # deadline", timeout=1)
    until = time.monotonic() + 15
    while any("# deadline" in " ".join(one.args) for one in sandbox.commands.list()):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_commands_in_the_background_are_listed_left_joined_and_killed(sandbox: Any) -> None:
    command = sandbox.commands.run(
        "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done", background=True
    )
    assert command.pid in [one.pid for one in sandbox.commands.list()]
    command.disconnect()
    again = sandbox.commands.connect(command.pid)
    result = again.wait()
    assert result.exit_code == 0 and result.stdout.endswith("6\n")
    assert command.pid not in [one.pid for one in sandbox.commands.list()]

    sleeper = sandbox.commands.run("sleep 300", background=True)
    assert sleeper.kill()
    with pytest.raises(e2b.CommandExitException) as raised:
        sleeper.wait()
    assert raised.value.exit_code == 137
    assert not sandbox.commands.kill(sleeper.pid)


def test_input_while_a_command_runs(sandbox: Any) -> None:
    command = sandbox.commands.run("cat", stdin=True, background=True)
    sandbox.commands.send_stdin(command.pid, "one\n")
    command.send_stdin(b"two\n")
    sandbox.commands.stream_input(command.pid, ["three\n", b"four\n"])
    command.close_stdin()
    assert command.wait().stdout == "one\ntwo\nthree\nfour\n"


def test_a_terminal(sandbox: Any) -> None:
    seen: list[bytes] = []
    terminal = sandbox.pty.create(e2b.PtySize(rows=30, cols=90), timeout=60)
    sandbox.pty.resize(terminal.pid, e2b.PtySize(rows=40, cols=111))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; exit 3\n")
    with pytest.raises(e2b.CommandExitException) as raised:
        terminal.wait(on_pty=seen.append)
    assert raised.value.exit_code == 3 and b"40 111" in b"".join(seen)


# -- files ---------------------------------------------------------------------------


def test_files_are_written_read_and_described(sandbox: Any) -> None:
    info = sandbox.files.write("notes/a.txt", "grün")
    assert info.name == "a.txt" and info.path.endswith("/notes/a.txt")
    assert sandbox.files.read("notes/a.txt") == "grün" == sandbox.files.read(info.path)
    found = sandbox.files.get_info("notes/a.txt")
    assert found.size == 5 and found.permissions.startswith("-rw") and found.type.value == "file"
    assert abs(found.modified_time.timestamp() - time.time()) < 600
    assert sandbox.files.exists("notes") and not sandbox.files.exists("elsewhere")
    assert sandbox.files.make_dir("notes/deep/er") and not sandbox.files.make_dir("notes/deep")
    names = [entry.name for entry in sandbox.files.list("notes", depth=3)]
    assert sorted(names) == ["a.txt", "deep", "er"]
    moved = sandbox.files.rename("notes/a.txt", "notes/b.txt")
    assert moved.path.endswith("/notes/b.txt") and not sandbox.files.exists("notes/a.txt")
    sandbox.files.remove("notes")
    assert not sandbox.files.exists("notes")
    sandbox.commands.run("ln -s /tmp link")
    assert sandbox.files.get_info("link").symlink_target == "/tmp"
    with pytest.raises(e2b.exceptions.NotFoundException):
        sandbox.files.read("elsewhere")


@pytest.mark.parametrize("form", ["multipart", "octets", "gzip", "stream"])
def test_bytes_arrive_as_they_were_sent(sandbox: Any, form: str) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB
    sent: Any = io.BytesIO(data) if form == "stream" else data
    sandbox.files.write(
        "blob", sent, gzip=form == "gzip", use_octet_stream=True if form == "octets" else None
    )
    assert bytes(sandbox.files.read("blob", format="bytes")) == data
    with sandbox.files.read("blob", format="stream") as pieces:
        assert b"".join(pieces) == data


def test_several_files_at_once(sandbox: Any) -> None:
    sandbox.files.write_files([{"path": f"many/{n} ü.txt", "data": str(n)} for n in range(3)])
    assert [sandbox.files.read(f"many/{n} ü.txt") for n in range(3)] == ["0", "1", "2"]


def test_a_folder_is_watched(sandbox: Any) -> None:
    sandbox.files.make_dir("watched")
    watch = sandbox.files.watch_dir("watched")
    sandbox.commands.run("echo 1 > watched/new")
    until = time.monotonic() + 10
    seen: list[Any] = []
    while not any(event.name == "new" for event in seen):
        assert time.monotonic() < until
        seen += watch.get_new_events()
        time.sleep(0.05)
    watch.stop()


# -- links, ports, many at once ------------------------------------------------------------


def test_a_file_goes_by_signed_links(sandbox: Any) -> None:
    boundary = (
        b"--b\r\ncontent-disposition: form-data; name=file; filename=x\r\n\r\nby a link\r\n--b--"
    )
    kind = {"content-type": "multipart/form-data; boundary=b"}
    up = sandbox.upload_url("sent.txt", use_signature_expiration=60)
    assert opened(urllib.request.Request(up, boundary, kind))[0] == 200
    down = sandbox.download_url("sent.txt", use_signature_expiration=60)
    assert opened(urllib.request.Request(down)) == (200, b"by a link")
    assert opened(urllib.request.Request(down.replace("sent", "other")))[0] == 401
    assert opened(urllib.request.Request(down, boundary, kind))[0] == 401


def opened(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_port_is_reached_by_its_host(sandbox: Any) -> None:
    sandbox.files.write("answer.py", PORT_PROGRAM)
    server = sandbox.commands.run("python3 answer.py", background=True)
    until = time.monotonic() + 20
    while (found := at_host(sandbox.get_host(8000)))[0] == 502:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert found == (200, b"from inside: /asked")
    assert server.kill()


def test_a_terminal_is_left_joined_and_killed(sandbox: Any) -> None:
    size = e2b.PtySize(rows=30, cols=90)
    left = sandbox.pty.create(size, timeout=60)
    left.disconnect()
    seen: list[bytes] = []
    joined = sandbox.pty.connect(left.pid)
    sandbox.pty.send_stdin(left.pid, b"echo $((40 + 2))$((7 * 6)); exit 0\n")
    assert joined.wait(on_pty=seen.append).exit_code == 0 and b"4242" in b"".join(seen)
    killed = sandbox.pty.create(size, timeout=60)
    assert sandbox.pty.kill(killed.pid)
    with pytest.raises(e2b.CommandExitException) as raised:
        killed.wait()
    assert raised.value.exit_code == 137


def test_a_signal_that_ends_a_command_is_its_exit_code(sandbox: Any) -> None:
    with pytest.raises(e2b.CommandExitException) as raised:
        sandbox.commands.run("kill -TERM $$")
    assert raised.value.exit_code == 143


def test_threads_in_one_sandbox_do_not_mix_output(sandbox: Any) -> None:
    found: dict[int, str] = {}

    def run(n: int) -> None:
        found[n] = sandbox.commands.run(f"for i in 1 2 3; do echo {n}; done").stdout

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: f"{n}\n" * 3 for n in range(8)}
