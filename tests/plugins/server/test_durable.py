"""Durable sandboxes: they stay at the server's end, however it comes, and are found again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from plugins.server.conftest import need
from plugins.server.serving import Caller, Made, Served, create, made_key, serving, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")


@attrs.frozen
class Place:
    """A file, its folder of state, and the containers that are its own."""

    file: Path
    state: Path
    key: str
    mark: str

    def serving(self) -> Any:
        return serving("--config", str(self.file), key=self.key)

    def containers(self) -> list[str]:
        """All of its servers', running or not."""
        chosen = f"label=io.stockade.label.test={self.mark}"
        listing = ["docker", "ps", "-aq", "--filter", chosen]
        return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()

    def records(self) -> list[str]:
        return [path.stem for path in self.state.glob("*.json")]


def write(file: Path, state: Path, string: str, keys: str = "") -> None:
    more = f'[serve.templates.base]\nprovider = "{string}"\nenv = {{ OF = "template" }}\n'
    file.write_text(f'[serve]\nstate = "{state}"\n{more}{keys}')
    file.chmod(0o600)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    need("docker:stockade-test/python")
    # A ledger of its own: `gc` says so where it finds a record that it cannot look after.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "ledger"))
    mark = uuid.uuid4().hex
    string = (
        f"docker:stockade-test/python?durable=1&labels=test={mark}&lifetime_seconds=300"
        "&memory_mb=128"
    )
    file, state = tmp_path / "stockade.toml", tmp_path / "state"
    write(file, state, string)
    found = Place(file, state, made_key(file, "one"), mark)
    yield found
    left = found.containers()
    if left:
        subprocess.run(["docker", "rm", "-f", *left], check=True, capture_output=True)


def killed(served: Served) -> None:
    """At once, with no time for anything."""
    served.process.send_signal(signal.SIGKILL)
    served.process.wait(30)


def again(made: Made, served: Served) -> Made:
    """The same, by the same token, at another server."""
    return attrs.evolve(made, caller=Caller(served.url, served.key))


def read(made: Made, path: str) -> tuple[int, Any]:
    return made.caller.ask("GET", f"/files?path={path}", **made.headers)


def printed(made: Made, line: str) -> bytes:
    """What a command prints."""
    made.stream("process.Process/Start", start(f"({line}) > /workspace/printed"))
    status, body = read(made, "printed")
    assert status == 200, body
    return body if isinstance(body, bytes) else str(body).encode()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_found_again(place: Place, how: signal.Signals) -> None:
    asked = {"timeout": 200, "metadata": {"of": "it", "ü": "1"}, "envVars": {"MORE": "s3cr3t"}}
    with place.serving() as served:
        made = create(Caller(served.url, served.key), **asked)
        assert printed(made, "echo kept > kept; echo $OF $MORE") == b"template s3cr3t\n"
        before = made.caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[1]
        served.process.send_signal(how)
        served.process.wait(60)
    assert len(place.containers()) == 1
    assert place.records() == [made.sandbox_id]
    with place.serving() as served:
        found = again(made, served)
        assert found.caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[1] == before
        assert [one["sandboxID"] for one in found.caller.ask("GET", "/v2/sandboxes")[1]] == [
            made.sandbox_id
        ]
        assert read(found, "kept") == (200, b"kept\n")
        assert printed(found, "echo $OF $MORE") == b"template s3cr3t\n"
        wrong = attrs.evolve(found, token="0" * 64)
        assert read(wrong, "kept")[0] == 401
        path = f"/v2/sandboxes/{made.sandbox_id}/connect"
        status, connected = found.caller.ask("POST", path, {"timeout": 250})
        assert (status, connected["envdAccessToken"]) == (200, made.token)
        assert found.caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204
        assert place.containers() == []
        assert place.records() == []


def test_a_sandbox_that_is_not_durable_ends_as_ever(tmp_path: Path) -> None:
    need("local")
    file, state = tmp_path / "stockade.toml", tmp_path / "state"
    write(file, state, "local")
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        create(Caller(served.url, key))
        assert not list(state.glob("*.json"))
    with serving("--config", str(file), key=key) as served:
        assert Caller(served.url, key).ask("GET", "/v2/sandboxes") == (200, [])


def test_the_sdk_connects_after_the_restart(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    e2b = pytest.importorskip("e2b", reason="the SDK is not installed (tox -e server)")
    monkeypatch.setenv("E2B_API_KEY", place.key)

    def reach(served: Served) -> None:
        monkeypatch.setenv("E2B_API_URL", served.url)
        monkeypatch.setenv("E2B_SANDBOX_URL", served.url)

    with place.serving() as served:
        reach(served)
        sandbox = e2b.Sandbox.create(timeout=200, metadata={"job": "7"})
        sandbox.files.write("notes", "kept")
        killed(served)
    with place.serving() as served:
        reach(served)
        found = e2b.Sandbox.connect(sandbox.sandbox_id)
        assert found.files.read("notes") == "kept"
        assert found.get_info().metadata == {"job": "7"}
        assert found.commands.run("echo again").stdout == "again\n"
        found.kill()


def test_a_paused_one_stays_paused_and_goes_on(place: Place) -> None:
    with place.serving() as served:
        made = create(Caller(served.url, served.key), timeout=200)
        path = f"/sandboxes/{made.sandbox_id}"
        assert made.caller.ask("POST", f"{path}/pause", {})[0] == 204
        killed(served)
    with place.serving() as served:
        found = again(made, served)
        assert found.caller.ask("GET", path)[1]["state"] == "paused"
        assert read(found, "kept")[0] == 502
        assert found.caller.ask("POST", f"{path}/connect", {"timeout": 100})[0] == 201
        assert printed(found, "echo on") == b"on\n"


def test_one_whose_timeout_passed_meanwhile_ends_at_the_start(place: Place) -> None:
    with place.serving() as served:
        made = create(Caller(served.url, served.key), timeout=200)
        timeout = {"timeout": 1}
        path = f"/sandboxes/{made.sandbox_id}/timeout"
        assert made.caller.ask("POST", path, timeout)[0] == 204
        killed(served)
    time.sleep(1)
    with place.serving() as served:
        until = time.monotonic() + 20
        while place.containers():
            assert time.monotonic() < until
            time.sleep(0.1)
        assert again(made, served).caller.ask("GET", "/v2/sandboxes") == (200, [])
        assert place.records() == []


def test_one_whose_key_is_gone_is_out_of_reach(place: Place) -> None:
    with place.serving() as served:
        made = create(Caller(served.url, served.key), timeout=200)
        killed(served)
    old = place.file.read_text()
    place.file.write_text(old.partition("\n[serve.keys")[0] + "\n")
    other = attrs.evolve(place, key=made_key(place.file, "two"))
    with other.serving() as served:
        caller = Caller(served.url, served.key)
        assert caller.ask("GET", "/v2/sandboxes") == (200, [])
        assert read(again(made, served), "kept")[0] == 502
    assert len(place.containers()) == 1  # until its lifetime is over
    place.file.write_text(old)
    with place.serving() as served:
        assert read(again(made, served), "kept")[0] == 404


def test_what_is_kept_is_its_users_alone_and_holds_no_token(place: Place) -> None:
    with place.serving() as served:
        made = create(Caller(served.url, served.key), timeout=200)
        traffic = made.caller.ask("POST", f"/sandboxes/{made.sandbox_id}/connect", {})[1]
        assert place.state.stat().st_mode & 0o777 == 0o700
        kept = list(place.state.iterdir())
        assert {path.name for path in kept} == {"lock", "secret", f"{made.sandbox_id}.json"}
        for path in kept:
            assert path.stat().st_mode & 0o777 == 0o600, path
            content = path.read_bytes()
            for token in (made.token, traffic["trafficAccessToken"]):
                assert token.encode() not in content and bytes.fromhex(token) not in content
            assert place.key.encode() not in content
        assert "another server uses the folder" in refused(place.file)
    place.state.chmod(0o750)
    assert f"run: chmod 700 {place.state}" in refused(place.file)


def test_a_record_that_is_none_stops_nothing(place: Place) -> None:
    place.state.mkdir(0o700)
    for name, text in (("0" * 32, "{"), ("1" * 32, "[]"), ("2" * 32, '{"version": 2}')):
        (place.state / f"{name}.json").write_text(text)
    unknown = {"seconds": 1.0, "metadata": {}, "env": {}, "rules": {"hosts": None}}
    with place.serving() as served:
        made = create(Caller(served.url, served.key), timeout=200)
        record = (place.state / f"{made.sandbox_id}.json").read_text()
        assert all(name in record for name in unknown)
        gone = record.replace(made.sandbox_id, "3" * 32)
        (place.state / f"{'3' * 32}.json").write_text(gone)
        killed(served)
    with place.serving() as served:
        listed = again(made, served).caller.ask("GET", "/v2/sandboxes")[1]
        assert [one["sandboxID"] for one in listed] == [made.sandbox_id]
        assert "3" * 32 not in place.records()


def test_none_is_lost_however_the_making_is_broken_off(place: Place) -> None:
    """Killed at random moments of a creation: what stands is listed, or is ended."""
    chance = random.Random(7)
    for _ in range(4):
        with place.serving() as served:
            caller = Caller(served.url, served.key)
            making = threading.Thread(target=attempt, args=(caller,), daemon=True)
            making.start()
            time.sleep(chance.uniform(0.05, 0.9))
            killed(served)
            making.join(30)
    with place.serving() as served:
        listed = Caller(served.url, served.key).ask("GET", "/v2/sandboxes")[1]
        subprocess.run([sys.executable, "-m", "stockade.cli", "gc"], check=True, timeout=100)
        until = time.monotonic() + 30
        while len(place.containers()) > len(listed):
            assert time.monotonic() < until, (place.containers(), listed)
            time.sleep(0.2)
        assert sorted(place.records()) == sorted(one["sandboxID"] for one in listed)


def attempt(caller: Caller) -> None:
    try:
        caller.ask("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 200})
    except OSError:
        return


def test_what_cannot_be_kept_track_of_is_not_made(place: Place) -> None:
    with place.serving() as served:
        caller = Caller(served.url, served.key)
        assert caller.ask("GET", "/v2/sandboxes") == (200, [])
        place.state.rename(place.state.with_name("away"))
        place.state.touch()
        status, said = caller.ask("POST", "/v2/sandboxes", {"templateID": "base"})
        assert status == 503 and "cannot keep the sandbox" in said["message"]
        until = time.monotonic() + 20
        while place.containers():
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_durable_template_needs_a_folder_and_a_wall_that_can(tmp_path: Path) -> None:
    need("local")
    file = tmp_path / "stockade.toml"
    write(file, tmp_path / "state", "local?durable=1")
    made_key(file, "one")
    assert "durable" in refused(file)
    string = "docker:stockade-test/python?durable=1"
    need(string)
    file.write_text(f'[serve.templates.base]\nprovider = "{string}"\n')
    made_key(file, "one")
    assert "name a folder for that in its file" in refused(file)


def refused(file: Path) -> str:
    command = [sys.executable, "-m", "stockade.cli", "serve", "--port", "0", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout
    return done.stderr
