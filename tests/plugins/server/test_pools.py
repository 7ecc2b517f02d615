"""Sandboxes that are ready before somebody asks."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.server.conftest import need
from plugins.server.serving import Caller, Made, Served, create, events, frame, made_key, serving

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")

_FILE = """
[serve.templates.base]
provider = "local?lifetime_seconds=600"
pool = 2
env = { OF = "template", BOTH = "template" }
[serve.templates.cold]
provider = "local"
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("server") / "stockade.toml"
    file.write_text(_FILE)
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as found:
        yield found


@pytest.fixture
def caller(served: Served) -> Caller:
    return Caller(served.url, served.key)


def figures(caller: Caller) -> dict[str, int]:
    """Of the pool, as Prometheus reads them."""
    text = caller.ask("GET", "/metrics")[1].decode()
    sample = r'(?m)^stockade_server_pool_(\w+)\{template="base"(.*?)\} (\d+)$'
    found = re.findall(sample, text)
    return {name + "".join(re.findall('="(.*)"', more)): int(n) for name, more, n in found}


def full(caller: Caller) -> dict[str, int]:
    until = time.monotonic() + 60
    while (now := figures(caller))["ready"] < 2:
        assert time.monotonic() < until, now
        time.sleep(0.05)
    return now


def shell(made: Made, line: str, **envs: str) -> str:
    config = {"cmd": "/bin/sh", "args": ["-c", line], "envs": envs}
    status, body = made.stream("process.Process/Start", frame({"process": config, "stdin": False}))
    assert status == 200, body
    found = [one["event"]["data"]["stdout"] for one in events(body)[:-1] if "data" in one["event"]]
    return b"".join(map(base64.b64decode, found)).decode()


def kill(made: Made) -> None:
    assert made.caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


def test_one_that_is_ready_is_handed_out_and_replaced(caller: Caller) -> None:
    before = full(caller)
    assert before["size"] == 2
    first = create(caller, metadata={"of": "caller"}, timeout=60)
    second = create(caller)
    taken = figures(caller)
    assert taken["taken_totalready"] == before["taken_totalready"] + 2
    assert taken["taken_totalcold"] == before["taken_totalcold"]
    assert first.sandbox_id != second.sandbox_id
    described = caller.ask("GET", f"/sandboxes/{first.sandbox_id}")[1]
    assert described["metadata"] == {"of": "caller"}
    assert shell(first, "pwd; ls -A") == "/workspace\n"
    shell(first, "echo of one > mine")
    assert shell(second, "ls -A") == ""
    full(caller)
    kill(first)
    kill(second)
    status, log = caller.ask("GET", "/v2/sandboxes")
    assert (status, log) == (200, [])  # those that wait are nobody's


def test_a_callers_variables_reach_commands_and_code(caller: Caller) -> None:
    before = full(caller)
    made = create(caller, envs={"OF": "caller"}, envVars={"OF": "caller", "MORE": "caller"})
    assert figures(caller)["taken_totalready"] == before["taken_totalready"] + 1
    assert shell(made, "echo $OF $BOTH $MORE") == "caller template caller\n"
    assert shell(made, "echo $OF $MORE", MORE="command") == "caller command\n"
    code = {"code": "import os; print(os.environ['OF'], os.environ['BOTH'])"}
    _, lines = caller.ask("POST", "/execute", code, **{**made.headers, "e2b_sandbox_port": "49999"})
    assert b'"caller template\\n"' in lines
    status, processes = made.rpc("process.Process/List", {})
    assert (status, processes) == (200, {"processes": []})
    kill(made)
    bad = caller.ask("POST", "/v2/sandboxes", {"templateID": "base", "envVars": {"A=B": "1"}})
    assert bad[0] == 400 and "A=B" in bad[1]["message"]


def test_one_with_rules_of_its_own_is_started_for_its_caller(caller: Caller) -> None:
    before = full(caller)
    made = create(caller, allow_internet_access=False)
    again = figures(caller)
    assert again["taken_totalready"] == before["taken_totalready"]
    assert again["ready"] == 2
    kill(made)
    kill(create(caller, templateID="cold"))
    assert figures(caller)["taken_totalready"] == before["taken_totalready"]


def test_what_waits_ends_with_the_server(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.mkdir()
    file = tmp_path / "stockade.toml"
    string = f"local?mounts={mark}:/marked"
    file.write_text(f'[serve.templates.base]\nprovider = "{string}"\npool = 2\n')
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        full(Caller(served.url, key))
        assert held(mark) >= 2
    until = time.monotonic() + 10
    while held(mark):
        assert time.monotonic() < until
        time.sleep(0.05)


def held(folder: Path) -> int:
    """How many namespaces of mounts have this folder in them."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            mounts = (entry / "mountinfo").read_text() if entry.name.isdigit() else ""
            if f"{folder} /marked " in mounts:
                found.add((entry / "ns/mnt").readlink())
        except OSError:
            continue
    return len(found)


@pytest.mark.parametrize(
    ("more", "why"),
    [("pool = true", "from 0 to 1000"), ("pool = -1", "from 0 to 1000"), ("pol = 1", "no key")],
)
def test_a_size_is_a_number(tmp_path: Path, more: str, why: str) -> None:
    assert why in refused(tmp_path, "local", more)


def test_a_durable_template_has_no_pool(tmp_path: Path) -> None:
    string = "docker:stockade-test/python?durable=1"
    need(string)
    assert "leave its pool out, or durable" in refused(tmp_path, string, "pool = 1")


def refused(folder: Path, string: str, more: str) -> str:
    file = folder / "stockade.toml"
    file.write_text(f'[serve.templates.base]\nprovider = "{string}"\n{more}\n')
    file.chmod(0o600)
    made_key(file, "one")
    command = [sys.executable, "-m", "stockade.cli", "serve", "--port", "0", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout
    return done.stderr
