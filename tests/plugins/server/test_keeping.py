"""What is kept of a sandbox: snapshots, forks, what is attached to files; and its timeout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.server.serving import Caller, Made, made_key, serving, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Caller]]:
    file = tmp_path_factory.mktemp("server") / "stockade.toml"
    file.write_text(
        "[serve]\nmax_sandboxes = 4\nmax_snapshots = 2\nmax_snapshot_mb = 1\n"
        '[serve.templates.base]\nprovider = "local?lifetime_seconds=600"\n'
    )
    file.chmod(0o600)
    keys = [made_key(file, name) for name in ("one", "two")]
    with serving("--config", str(file), key="") as served:
        yield [Caller(served.url, key) for key in keys]


@pytest.fixture(scope="module")
def caller(callers: list[Caller]) -> Caller:
    return callers[0]


def create(caller: Caller, template: str = "base", **body: Any) -> Made:
    asked = {"templateID": template, "timeout": 60, **body}
    status, found = caller.ask("POST", "/v2/sandboxes", asked)
    assert status == 201, found
    return Made(caller, found["sandboxID"], found["envdAccessToken"])


@pytest.fixture
def made(caller: Caller) -> Iterator[Made]:
    found = create(caller)
    yield found
    caller.ask("DELETE", f"/sandboxes/{found.sandbox_id}")


def write(made: Made, path: str, data: bytes, **headers: str) -> tuple[int, Any]:
    sent = {"content_type": "application/octet-stream", **made.headers, **headers}
    return made.caller.ask("POST", f"/files?path={path}", data, **sent)


def read(made: Made, path: str) -> tuple[int, Any]:
    return made.caller.ask("GET", f"/files?path={path}", **made.headers)


def kill(made: Made) -> None:
    assert made.caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


# -- snapshots and forks ---------------------------------------------------------------


def test_sandboxes_begin_with_a_snapshots_files(callers: list[Caller], made: Made) -> None:
    caller, stranger = callers
    write(made, "kept", b"then")
    path = f"/sandboxes/{made.sandbox_id}/snapshots"
    status, taken = caller.ask("POST", path, {"name": "mine"})
    assert status == 201 and taken["names"] == ["mine"]
    write(made, "kept", b"later")
    again = create(caller, "mine:default")
    assert read(again, "kept") == (200, b"then")
    write(again, "kept", b"changed")
    third = create(caller, taken["snapshotID"], metadata={"of": "it"})
    assert read(third, "kept") == (200, b"then")
    kill(again)
    kill(third)
    assert caller.ask("POST", path, {"name": "mine"})[0] == 409
    assert caller.ask("POST", path, {"name": "base"})[0] == 409
    assert caller.ask("POST", path, {"name": ""})[0] == 400
    other = caller.ask("POST", path, {})[1]
    assert caller.ask("POST", path, {})[0] == 429
    first, second = [caller.ask("GET", f"/snapshots?{q}")[1] for q in ("limit=1", "name=mine")]
    assert [one["snapshotID"] for one in first] == [other["snapshotID"]]
    assert [one["snapshotID"] for one in second] == [taken["snapshotID"]]
    assert len(caller.ask("GET", f"/snapshots?sandboxID={made.sandbox_id}")[1]) == 2
    assert caller.ask("GET", "/snapshots?sandboxID=ses-other")[1] == []

    # Another key has none of them.
    assert stranger.ask("GET", "/snapshots") == (200, [])
    for word in ("mine", taken["snapshotID"]):
        assert stranger.ask("POST", "/v2/sandboxes", {"templateID": word})[0] == 404
        assert stranger.ask("DELETE", f"/templates/{word}")[0] == 404
    assert stranger.ask("POST", path, {})[0] == 404

    for one in (taken, other):
        assert caller.ask("DELETE", f"/templates/{one['snapshotID']}")[0] == 204
        assert caller.ask("DELETE", f"/templates/{one['snapshotID']}")[0] == 404
    assert caller.ask("POST", "/v2/sandboxes", {"templateID": "mine"})[0] == 404
    assert caller.ask("DELETE", "/templates/base")[0] == 501


def test_a_snapshot_is_bounded_and_goes_with_the_server(made: Made) -> None:
    write(made, "large", b"x" * (2 << 20))
    assert made.caller.ask("POST", f"/sandboxes/{made.sandbox_id}/snapshots", {})[0] == 413
    assert made.caller.ask("GET", "/snapshots") == (200, [])


def test_a_servers_end_removes_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving("--template", "base=local") as served:
        found = create(Caller(served.url, served.key))
        path = f"/sandboxes/{found.sandbox_id}/snapshots"
        assert found.caller.ask("POST", path, {})[0] == 201
        (folder,) = tmp_path.glob("stockade-snapshots-*")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_forks_have_the_files_and_are_counted(caller: Caller, made: Made) -> None:
    write(made, "kept", b"then")
    path = f"/sandboxes/{made.sandbox_id}/fork"
    status, found = caller.ask("POST", path, {"count": 4, "timeout": 60})
    assert status == 201
    forks = [one["sandbox"] for one in found if "sandbox" in one]
    assert len(forks) == 3 and found[3]["error"]["code"] == 429
    for one in forks:
        fork = Made(caller, one["sandboxID"], one["envdAccessToken"])
        assert read(fork, "kept") == (200, b"then")
        write(fork, "kept", b"changed")
        kill(fork)
    assert read(made, "kept") == (200, b"then")
    for count in (0, 101, "1", True):
        assert caller.ask("POST", path, {"count": count})[0] == 400


# -- the timeout -----------------------------------------------------------------------


def state(made: Made) -> str:
    status, found = made.caller.ask("GET", f"/sandboxes/{made.sandbox_id}")
    return str(found["state"]) if status == 200 else "gone"


def wait_for(made: Made, wanted: str) -> None:
    until = time.monotonic() + 20
    while state(made) != wanted:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_sandbox_pauses_at_its_timeout_and_connecting_resumes_it(caller: Caller) -> None:
    made = create(caller, timeout=1, autoPause=True)
    lifecycle = caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[1]["lifecycle"]
    assert lifecycle == {"autoResume": False, "onTimeout": "pause"}
    write(made, "kept", b"kept")
    wait_for(made, "paused")
    assert read(made, "kept")[0] == 502
    assert caller.ask("GET", "/health", **made.headers)[0] == 502
    for what in ("snapshots", "fork"):
        assert caller.ask("POST", f"/sandboxes/{made.sandbox_id}/{what}", {})[0] == 409
    path = f"/v2/sandboxes/{made.sandbox_id}/connect"
    assert caller.ask("POST", path, {"timeout": 601})[0] == 400
    assert state(made) == "paused"
    assert caller.ask("POST", path, {"timeout": 60})[0] == 201
    assert caller.ask("POST", path, {"timeout": 60})[0] == 200
    assert read(made, "kept") == (200, b"kept")
    kill(made)


def test_one_that_resumes_by_itself_does_so_for_who_may_use_it(caller: Caller) -> None:
    made = create(caller, timeout=2, autoPause=True, autoResume={"enabled": True})
    write(made, "kept", b"kept")
    wait_for(made, "paused")
    assert caller.ask("GET", "/health", **made.headers)[0] == 502
    wrong = {**made.headers, "x_access_token": "0" * 64}
    assert caller.ask("GET", "/files?path=kept", **wrong)[0] == 401
    assert state(made) == "paused"
    assert read(made, "kept") == (200, b"kept")
    assert state(made) == "running"
    wait_for(made, "paused")  # and at its next timeout again
    kill(made)


def test_its_end_is_put_off_and_never_brought_forward(caller: Caller, made: Made) -> None:
    def end() -> str:
        return str(caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[1]["endAt"])

    before, path = end(), f"/sandboxes/{made.sandbox_id}/refreshes"
    assert caller.ask("POST", path, {"duration": 5})[0] == 204 and end() == before
    assert caller.ask("POST", path, {"duration": 300})[0] == 204 and end() > before
    assert caller.ask("POST", path, {"duration": 601})[0] == 400
    later = end()
    connect = f"/v2/sandboxes/{made.sandbox_id}/connect"
    assert caller.ask("POST", connect, {"timeout": 5})[0] == 200 and end() == later


# -- metrics ---------------------------------------------------------------------------


def test_metrics_are_the_walls_own_counts(caller: Caller, made: Made) -> None:
    path = f"/sandboxes/{made.sandbox_id}/metrics"
    status, found = caller.ask("GET", path)
    assert status == 200
    one = found[-1]
    assert 0 < one["memUsed"] < one["memTotal"] == 512 << 20 and one["cpuCount"] == 1
    assert one["cpuUsedPct"] >= 0 and abs(one["timestampUnix"] - time.time()) < 60
    assert caller.ask("GET", f"{path}?start=1&end=2") == (200, [])
    assert len(caller.ask("GET", f"{path}?start={one['timestampUnix']}")[1]) >= 1
    assert caller.ask("GET", f"{path}?start=x")[0] == 400
    assert Caller(caller.url, "").ask("GET", path)[0] == 401


def test_metrics_of_several_are_of_the_callers_own(callers: list[Caller], made: Made) -> None:
    caller, stranger = callers
    path = f"/sandboxes/metrics?sandbox_ids=ses-nowhere,{made.sandbox_id}"
    status, found = caller.ask("GET", path)
    assert status == 200 and list(found["sandboxes"]) == [made.sandbox_id]
    assert found["sandboxes"][made.sandbox_id]["memTotal"] == 512 << 20
    assert stranger.ask("GET", path) == (200, {"sandboxes": {}})
    assert caller.ask("GET", "/sandboxes/metrics")[0] == 400
    many = ",".join(map(str, range(101)))
    assert caller.ask("GET", f"/sandboxes/metrics?sandbox_ids={many}")[0] == 400
    assert Caller(caller.url, "").ask("GET", path)[0] == 401


# -- logs ------------------------------------------------------------------------------


def test_a_log_says_what_was_done_to_its_owner_alone(callers: list[Caller], made: Made) -> None:
    caller, stranger = callers
    made.stream("process.Process/Start", start("echo a; exit 3"))
    path = f"/v2/sandboxes/{made.sandbox_id}/logs"
    status, found = caller.ask("GET", path)
    assert status == 200
    first, second, third = found["logs"]
    assert first["message"] == "sandbox made of the template base" and first["level"] == "info"
    assert second["message"].endswith("started: /bin/sh -c 'echo a; exit 3'")
    assert third["message"].endswith("ended: exit status 3") and third["level"] == "warn"
    assert third["fields"] == second["fields"] != {}
    for query, entries in (
        ("level=warn", [third]),
        ("direction=backward", [third, second, first]),
        ("direction=backward&limit=1", [third]),
        ("limit=1", [first]),
        ("search=started", [second]),
        (f"cursor={int(time.time() * 1000) + 60_000}", []),
    ):
        assert caller.ask("GET", f"{path}?{query}") == (200, {"logs": entries})
    old = caller.ask("GET", f"/sandboxes/{made.sandbox_id}/logs?limit=2")[1]
    assert [one["line"] for one in old["logs"]] == [first["message"], second["message"]]
    assert old["logEntries"] == [first, second]
    for query in ("level=loud", "direction=up", "limit=-1", "cursor=x"):
        assert caller.ask("GET", f"{path}?{query}")[0] == 400
    assert stranger.ask("GET", path)[0] == 404


# -- files -----------------------------------------------------------------------------


def entry(made: Made, path: str) -> dict[str, Any]:
    status, found = made.rpc("filesystem.Filesystem/Stat", {"path": path})
    assert status == 200
    return dict(found["entry"])


def test_metadata_goes_along_with_its_file(made: Made) -> None:
    status, (written,) = write(made, "notes/a", b"1", x_metadata_Author="me", x_metadata_n="a b")
    assert status == 200 and written["metadata"] == {"author": "me", "n": "a b"}
    assert entry(made, "notes/a")["metadata"] == {"author": "me", "n": "a b"}
    (listed,) = made.rpc("filesystem.Filesystem/ListDir", {"path": "notes"})[1]["entries"]
    assert listed["metadata"] == {"author": "me", "n": "a b"}
    for source, destination in (("notes", "moved"), ("moved/a", "moved/b")):
        body = {"source": source, "destination": destination}
        assert made.rpc("filesystem.Filesystem/Move", body)[0] == 200
    assert entry(made, "moved/b")["metadata"]["author"] == "me"
    write(made, "moved/a", b"2")
    assert "metadata" not in entry(made, "moved/a")
    write(made, "moved/b", b"2")
    assert "metadata" not in entry(made, "moved/b")
    write(made, "moved/b", b"3", x_metadata_n="1")
    made.rpc("filesystem.Filesystem/Remove", {"path": "moved"})
    write(made, "elsewhere", b"3")
    body = {"source": "elsewhere", "destination": "moved/b"}
    made.rpc("filesystem.Filesystem/MakeDir", {"path": "moved"})
    made.rpc("filesystem.Filesystem/Move", body)
    assert "metadata" not in entry(made, "moved/b")


def test_metadata_that_is_none_writes_nothing(made: Made) -> None:
    for headers in ({"x_metadata_n": "x" * 4096}, {"x_metadata_": "x"}, {"x_metadata_n": "\xe9"}):
        assert write(made, "refused", b"1", **headers)[0] == 400
    assert made.rpc("filesystem.Filesystem/Stat", {"path": "refused"})[0] == 404


def test_a_folder_comes_before_what_is_in_it_and_owners_have_names(made: Made) -> None:
    for name in ("b/c/d", "b/a", "a"):
        write(made, f"top/{name}", b"1")
    found = made.rpc("filesystem.Filesystem/ListDir", {"path": "top", "depth": 3})[1]["entries"]
    assert [one["name"] for one in found] == ["a", "b", "a", "c", "d"]
    two = made.rpc("filesystem.Filesystem/ListDir", {"path": "top", "depth": 2})[1]["entries"]
    assert [one["name"] for one in two] == ["a", "b", "a", "c"]
    passwd = read(made, "/etc/passwd")[1].decode()
    names = [line.split(":")[0] for line in passwd.splitlines()]
    assert found[0]["owner"] in names


def test_a_watcher_tells_what_is_there_now(made: Made) -> None:
    write(made, "watched/old", b"1")
    body = {"path": "watched", "includeEntry": True, "allowNetworkMounts": True}
    watcher = made.rpc("filesystem.Filesystem/CreateWatcher", body)[1]
    write(made, "watched/new", b"123")
    made.rpc("filesystem.Filesystem/Remove", {"path": "watched/old"})
    events: list[dict[str, Any]] = []
    until = time.monotonic() + 10
    while not any(one["type"] == "EVENT_TYPE_REMOVE" for one in events):
        assert time.monotonic() < until
        events += made.rpc("filesystem.Filesystem/GetWatcherEvents", watcher)[1]["events"]
    new = [one for one in events if one["name"] == "new"]
    assert new and all(one["entry"]["size"] == "3" for one in new)
    assert all("entry" not in one for one in events if one["type"] == "EVENT_TYPE_REMOVE")
