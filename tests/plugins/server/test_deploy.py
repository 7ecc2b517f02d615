"""What is in deploy/server: built, started and checked as far as this machine can."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from plugins.server.conftest import need
from plugins.server.serving import Caller, Made, events, made_key, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

REPOSITORY = Path(__file__).parents[3]
DEPLOY = REPOSITORY / "deploy" / "server"
#: Imported from this machine; it has Python, and no pip: the image needs none.
BASE = "stockade-test/work"
_DISTRIBUTIONS = ("core", "supervisor", "plugins/server", "plugins/docker", "plugins/landlock")


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done  # type: ignore[no-any-return]


# -- the image -------------------------------------------------------------------------


@attrs.frozen
class Built:
    image: str
    folder: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image, of this repository's own wheels. STOCKADE_WHEELS names a folder that has them;
    `build` makes them, for which pip needs a registry."""
    wheels = os.environ.get("STOCKADE_WHEELS")
    if not wheels:
        pytest.skip("STOCKADE_WHEELS is not set: a folder of wheels, or `build`")
    need(f"docker:{BASE}")
    folder = tmp_path_factory.mktemp("deploy") / "server"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("wheels"))
    if wheels == "build":
        places = [str(REPOSITORY / name) for name in _DISTRIBUTIONS]
        places[0] = f"stockade[cli] @ file://{places[0]}"
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(folder / "wheels")]
        run(*pip, "pip", *places)
    else:
        shutil.copytree(wheels, folder / "wheels")
    image = f"stockade-server-test:{uuid.uuid4().hex[:12]}"
    run("docker", "build", "-q", "--build-arg", f"BASE={BASE}", "-t", image, str(folder))
    yield Built(image, folder)
    subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.timeout(900)
def test_the_image_serves_with_no_more_rights_than_compose_gives(built: Built) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (tox -e server)")
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["stockade"]
    mark, port = uuid.uuid4().hex, free_port()
    file = built.folder / "stockade.toml"
    text = file.read_text()
    file.write_text(text.replace("docker:python:3.13-slim?", f"docker:{BASE}?labels=t={mark}&"))
    key = made_key(file, "one")
    file.chmod(0o644)
    command = [
        *("docker", "run", "-d", "--name", f"stockade-{mark}", "-p", f"127.0.0.1:{port}:3000"),
        *("--init", "--read-only", "--cap-drop", *service["cap_drop"]),
        *("--security-opt", *service["security_opt"], "--pids-limit", str(service["pids_limit"])),
        *("--memory", service["mem_limit"], "--tmpfs", service["tmpfs"][0]),
        *("--group-add", str(os.stat("/var/run/docker.sock").st_gid)),
        *("-v", f"{file}:/etc/stockade/stockade.toml:ro", "-v", f"state-{mark}:/var/lib/stockade"),
        *("-v", "/var/run/docker.sock:/var/run/docker.sock", built.image),
    ]
    chosen = f"label=io.stockade.label.t={mark}"
    try:
        run(*command)
        caller = Caller(f"http://127.0.0.1:{port}", key)
        wait_ready(caller, mark)
        status, found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base"})
        assert status == 201, (found, logs(mark))
        made = Made(caller, found["sandboxID"], found["envdAccessToken"])
        status, body = made.stream("process.Process/Start", start("echo from inside"))
        assert status == 200
        assert any("data" in one.get("event", {}) for one in events(body))
        inside = ("docker", "exec", f"stockade-{mark}", "python3", "-c")
        assert run(*inside, "import os; print(os.getuid())").stdout == "10001\n"
        # The server's end leaves the durable sandbox; a new container with the volume finds it.
        run("docker", "restart", "-t", "60", f"stockade-{mark}")
        wait_ready(caller, mark)
        listed = caller.ask("GET", "/v2/sandboxes")[1]
        assert [one["sandboxID"] for one in listed] == [made.sandbox_id], logs(mark)
        assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204
        assert run("docker", "ps", "-aq", "--filter", chosen).stdout == ""
        healthy = ("docker", "inspect", "-f", "{{.State.Health.Status}}", f"stockade-{mark}")
        until = time.monotonic() + 60
        while run(*healthy).stdout.strip() != "healthy":
            assert time.monotonic() < until, logs(mark)
            time.sleep(1)
    finally:
        left = subprocess.run(
            ["docker", "ps", "-aq", "--filter", chosen], capture_output=True, text=True, check=False
        ).stdout.split()
        subprocess.run(
            ["docker", "rm", "-f", f"stockade-{mark}", *left], capture_output=True, check=False
        )
        subprocess.run(
            ["docker", "volume", "rm", f"state-{mark}"], capture_output=True, check=False
        )


def wait_ready(caller: Caller, mark: str) -> None:
    until = time.monotonic() + 90
    while True:
        try:
            if caller.ask("GET", "/ready")[0] == 204:
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < until, logs(mark)
        time.sleep(0.2)


def logs(mark: str) -> str:
    done = subprocess.run(
        ["docker", "logs", f"stockade-{mark}"], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


# -- the unit ----------------------------------------------------------------------------


def unit(folder: Path, *, local: bool) -> Path:
    """As it would be installed, but for the place of the program."""
    program = folder / "stockade"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (DEPLOY / "stockade.service").read_text()
    made = folder / "stockade.service"
    made.write_text(text.replace("/opt/stockade/bin/stockade", str(program)))
    if local:
        (folder / "stockade.service.d").mkdir()
        shutil.copy(DEPLOY / "local-walls.conf", folder / "stockade.service.d")
    return made


@pytest.mark.parametrize("local", [False, True])
def test_the_unit_is_one(tmp_path: Path, local: bool) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    made = unit(tmp_path, local=local)
    done = run("systemd-analyze", "verify", "--man=no", str(made))
    assert "stockade" not in done.stderr, done.stderr
    with made.open("a") as file:  # it is looked at: what is none is said
        file.write("[Service]\nNoSuchThing=yes\n")
    done = run("systemd-analyze", "verify", "--man=no", str(made))
    assert "NoSuchThing" in done.stderr


def test_the_unit_takes_away_what_the_server_does_not_need(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    if "--offline" not in run("systemd-analyze", "--help").stdout:
        pytest.skip("this systemd-analyze looks at no file")
    made = unit(tmp_path, local=False)
    look = ("systemd-analyze", "security", "--offline=yes", "--threshold=20")
    run(*look, str(made))  # of 100: the less, the less it is exposed
    text = made.read_text()
    made.write_text(re.sub(r"(?m)^(Cap|NoNew|Protect|Private|Restrict|System).*\n", "", text))
    assert subprocess.run([*look, str(made)], capture_output=True, check=False).returncode != 0


# -- compose -----------------------------------------------------------------------------


def test_compose_takes_its_file(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not here; run: apt-get install docker-compose")
    folder = tmp_path / "server"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("wheels"))
    shutil.move(folder / "compose.yaml", folder / "docker-compose.yml")
    look = [program, "-f", str(folder / "docker-compose.yml"), "config"]
    environment = {**os.environ, "DOCKER_GID": "998", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(look, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "/var/run/docker.sock" in done.stdout and "'998'" in done.stdout
    del environment["DOCKER_GID"]
    done = subprocess.run(look, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0 and "the group of the socket" in done.stderr


def test_the_file_that_goes_with_it_is_taken(tmp_path: Path) -> None:
    from stockade_server import Settings, read_settings

    file = tmp_path / "stockade.toml"
    shutil.copy(DEPLOY / "stockade.toml", file)
    file.chmod(0o600)
    made_key(file, "one")
    settings = Settings(**read_settings(str(file)))
    assert set(settings.templates) == {"base", "code-interpreter-v1"}
    assert json.dumps(sorted(settings.keys)) == '["one"]'
