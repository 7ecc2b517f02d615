"""An engine is found again where a session was opened, whatever leads elsewhere by then (C9)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.tls import TLSConfig

import stockade
from conftest import need
from stockade import ProviderUnavailableError, SandboxStartError, collect
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime
from stockade.wall import Place
from stockade_docker import places

BUSYBOX = "stockade-test/busybox"


@pytest.mark.parametrize(
    ("settings", "word", "local"),
    [
        ({}, "unix:///var/run/docker.sock", True),
        ({"base_url": "unix:///x/podman.sock"}, "unix:///x/podman.sock", True),
        ({"base_url": "npipe:////./pipe/docker"}, "npipe:////./pipe/docker", True),
        ({"base_url": "tcp://127.0.0.1:1"}, "tcp://127.0.0.1:1", True),
        ({"base_url": "tcp://[::1]:1"}, "tcp://[::1]:1", True),
        ({"base_url": "tcp://localhost:1"}, "tcp://localhost:1", True),
        ({"base_url": "tcp://10.0.0.1:1"}, "tcp://10.0.0.1:1", False),
        ({"base_url": "tcp://me:secret@host:1"}, "tcp://me@host:1", False),
        ({"base_url": "ssh://me@host"}, "ssh://me@host", False),
        ({"base_url": "ssh://localhost"}, "ssh://localhost", False),
    ],
)
def test_the_word_for_an_engine(settings: dict[str, Any], word: str, local: bool) -> None:
    place = places.place_of(settings)
    assert place == (Place.here(word) if local else Place.anywhere(word))
    assert places.settings_of(place) == {"base_url": word}


def test_certificates_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ca&.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("x")
    tls = TLSConfig(client_cert=("cert.pem", "key.pem"), ca_cert="ca&.pem", verify=True)
    place = places.place_of({"base_url": "https://host:2376", "tls": tls})
    monkeypatch.chdir("/")
    again = places.settings_of(place)
    assert again["base_url"] == "https://host:2376" and again["tls"].verify is True
    assert again["tls"].ca_cert == f"{tmp_path}/ca&.pem"
    assert again["tls"].cert == (f"{tmp_path}/cert.pem", f"{tmp_path}/key.pem")
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ProviderUnavailableError, match="certificates"):
        places.settings_of(place)


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("STOCKADE_GC", "off")
    return lambda: Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))


def _forget_nothing(runtimes: Any, session_id: str) -> None:
    """``gc`` in an environment that leads elsewhere, then whoever attaches."""
    runtime = runtimes()
    try:
        done = collect(runtime=runtime)
        assert session_id not in [entry[0] for entry in (*done.removed, *done.forgotten)]
        with stockade.attach(session_id, runtime=runtime) as session:
            assert session.run(["echo", "here"]).stdout == "here\n"
        assert collect(runtime=runtime).kept >= 0 and runtime.ledger.sessions() == []
    finally:
        runtime.close_all(20)


def test_C9_the_default_engine_is_found_when_the_environment_names_another(
    engine: docker.APIClient, runtimes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    string = f"docker:{BUSYBOX}?pull=never"
    session = stockade.open(string, runtime=runtimes(), durable=True)
    session.detach()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    _forget_nothing(runtimes, session.session_id)


def test_C9_podman_is_found_when_the_environment_names_it_no_more(
    engine: docker.APIClient, runtimes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = os.environ.get("STOCKADE_PODMAN", "/var/lib/stockade-engines/podman.sock")
    if not os.path.exists(socket):
        need("podman")
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{socket}")
        string = f"docker:{BUSYBOX}?pull=never"
        session = stockade.open(string, runtime=runtimes(), durable=True)
        session.detach()
    _forget_nothing(runtimes, session.session_id)


def test_C9_an_engine_that_is_gone_is_reported(
    engine: docker.APIClient, runtimes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is forgotten of what lives there."""
    runtime = runtimes()
    session = stockade.open(f"docker:{BUSYBOX}?pull=never", runtime=runtime, durable=True)
    session.detach()
    with runtime.ledger.file.writing() as db:
        place = Place.here(f"unix://{tmp_path}/gone.sock")
        (before,) = db.execute("SELECT place FROM sessions").fetchone()
        db.execute("UPDATE sessions SET place = ?", (str(place),))
    done = collect(runtime=runtime)
    assert not done.forgotten and not done.clean and "gone.sock" in done.skipped[0][1]
    with pytest.raises((ProviderUnavailableError, SandboxStartError), match=r"gone\.sock"):
        stockade.attach(session.session_id, runtime=runtimes())
    with runtime.ledger.file.writing() as db:
        db.execute("UPDATE sessions SET place = ?", (before,))
    stockade.attach(session.session_id, runtime=runtimes()).close()
