"""Starting it, and its end."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.server.serving import Caller, Made, Served, made_key, serving, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")


def refused(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "stockade.cli", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_it_does_not_start_open_or_on_what_others_wrote(tmp_path: Path) -> None:
    assert "--insecure serves loopback alone" in refused(
        "--insecure", "--host", "0.0.0.0", cwd=tmp_path
    )
    file = tmp_path / "stockade.toml"
    file.write_text('[serve.templates.base]\nprovider = "local"\n')
    file.chmod(0o600)
    assert "there is no key" in refused("--config", str(file), cwd=tmp_path)
    for mode, who in ((0o666, "everybody"), (0o660, "its group")):
        file.chmod(mode)
        said = refused("--config", str(file), cwd=tmp_path)
        assert f"{who} may write to it; run: chmod go-w {file}" in said
    file.chmod(0o600)
    os.mkfifo(tmp_path / "fifo")
    assert "it is no file" in refused("--config", str(tmp_path / "fifo"), cwd=tmp_path)
    file.write_text("[serve]\nprot = 1\n")
    assert "no key 'prot'" in refused("--config", str(file), cwd=tmp_path)
    file.write_text("[serve]\nport = 65536\n" + "[serve.templates.base]\nprovider = 'local'\n")
    assert "from 0 to 65535" in refused("--config", str(file), cwd=tmp_path)
    assert "not NAME=STRING" in refused("--template", "base", cwd=tmp_path)
    assert "nowhere" in refused("--template", "base=nowhere", cwd=tmp_path)


def test_a_name_has_one_key_and_the_file_is_its_makers_alone(tmp_path: Path) -> None:
    file = tmp_path / "stockade.toml"
    made_key(file, "ci")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "has a key 'ci' already" in refused(
        "key", "add", "ci", "--config", str(file), cwd=tmp_path
    )
    assert "no name of a key" in refused("key", "add", "a]b", "--config", str(file), cwd=tmp_path)
    for text, why in (("serve = 1", "[serve] is a table"), ("serve.keys = 1", "holds tables")):
        file.write_text(text)
        assert why in refused("key", "add", "other", "--config", str(file), cwd=tmp_path)


def test_without_keys_pages_of_a_browser_are_refused() -> None:
    with serving("--insecure", "--template", "base=local") as served:
        caller = Caller(served.url, "")
        assert caller.ask("GET", "/v2/sandboxes") == (200, [])
        assert caller.ask("GET", "/v2/sandboxes", origin="https://example.org")[0] == 403
        assert caller.ask("GET", "/v2/sandboxes", host="example.org")[0] == 403


def test_an_answer_with_a_body_waits_for_no_acknowledgement(served_alone: Served) -> None:
    """Nagle's delay took 40 ms of each, on a connection that is kept."""
    connection = Caller(served_alone.url, served_alone.key).connection()
    took = []
    try:
        for _ in range(15):
            began = time.monotonic()
            connection.request("GET", "/v2/sandboxes", headers={"x-api-key": served_alone.key})
            assert connection.getresponse().read() == b"[]"
            took.append(time.monotonic() - began)
    finally:
        connection.close()
    assert statistics.median(took) < 0.03, took


def test_its_end_leaves_nothing(served_alone: Served) -> None:
    caller = Caller(served_alone.url, served_alone.key)
    status, body = caller.ask("POST", "/v2/sandboxes", {"templateID": "base"})
    assert status == 201
    made = Made(caller, body["sandboxID"], body["envdAccessToken"])
    mark = f"987{os.getpid()}"
    connection = caller.connection()
    headers = {name.replace("_", "-"): value for name, value in made.headers.items()}
    headers["content-type"] = "application/connect+json"
    connection.request("POST", "/process.Process/Start", start(f"sleep {mark}"), headers)
    assert connection.getresponse().read(5)
    until = time.monotonic() + 20
    while not running(mark):
        assert time.monotonic() < until
        time.sleep(0.05)
    served_alone.process.terminate()
    served_alone.process.wait(60)
    connection.close()
    until = time.monotonic() + 10
    while running(mark):
        assert time.monotonic() < until
        time.sleep(0.05)


def running(mark: str) -> bool:
    """Whether a program of this machine has the mark as its argument."""
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and f"sleep\0{mark}".encode() in (entry / "cmdline").read_bytes()
            ):
                return True
        except OSError:
            continue
    return False


@pytest.fixture
def served_alone() -> Iterator[Served]:
    with serving("--template", "base=local") as served:
        yield served
