"""Whom the programs of a session run as (E1, E8)."""

from __future__ import annotations

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, container_of
from plugins.docker.own_engine import own_engine
from stockade.wall import AttachRequest, OpenRequest
from stockade_docker.engine import EngineInfo
from stockade_docker.identity import NOBODY, with_user


def _info(*security: str) -> EngineInfo:
    return EngineInfo("27.1", "6.1", "Linux", ("runc",), security, "2", is_podman=False)


def _request(session_id: str, user: str | None = None) -> OpenRequest:
    config = stockade.SandboxConfig(user=user)
    return OpenRequest(session_id=session_id, agent_hash="x", target=None, config=config)


def _user(session_id: str, *security: str, own_kernel: bool = False) -> int:
    made = with_user(_request(session_id), _info(*security), own_kernel=own_kernel)
    user, group = (made.config.user or "").split(":")
    assert user == group
    return int(user)


def test_a_session_has_a_user_of_its_own() -> None:
    users = {_user(f"session-{number}") for number in range(1000)}
    assert len(users) > 990
    assert all(0x7000_0000 <= user < 0x7FFE_0000 for user in users)
    assert _user("session-1") == _user("session-1")


@pytest.mark.parametrize("mapped", ["name=rootless", "name=userns"])
def test_where_users_are_mapped_there_are_few(mapped: str) -> None:
    users = {
        _user(f"session-{number}", "name=seccomp,profile=default", mapped) for number in range(1000)
    }
    assert len(users) > 950 and all(20_000 <= user < 60_000 for user in users)


def test_the_callers_choice_stands_and_a_kernel_of_its_own_needs_none() -> None:
    assert with_user(_request("x", "7"), _info(), own_kernel=False).config.user == "7"
    assert with_user(_request("x"), _info(), own_kernel=True).config.user == NOBODY


def test_whoever_attaches_comes_to_the_same() -> None:
    config = stockade.SandboxConfig()
    attach = AttachRequest(session_id="x", agent_hash="x", target=None, config=config)
    made = with_user(attach, _info(), own_kernel=False)
    assert isinstance(made, AttachRequest)
    assert made.config.user == f"{_user('x')}:{_user('x')}"


@pytest.mark.engine
def test_E8_two_sessions_are_two_users(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{BUSYBOX}") as one, stockade.open(f"docker:{BUSYBOX}") as two:
        seen = []
        for session in (one, two):
            reported = engine.inspect_container(container_of(session))["Config"]["User"]
            inside = session.shell("id -u; id -g").stdout.split()
            assert reported == ":".join(inside) != NOBODY
            for folder in ("/workspace", "/tmp"):
                assert session.shell(f"echo x > {folder}/x && stat -c %u:%g {folder}/x").stdout == (
                    f"{reported}\n"
                )
            seen.append(reported)
        assert seen[0] != seen[1]


@pytest.mark.engine
def test_E8_a_terminal_and_what_overlaps_are_the_same_user(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{PYTHON}") as session:
        user = session.shell("id -u").stdout
        running = session.stream(shell="echo; sleep 20")
        running.take()
        assert session.shell("id -u").stdout == user
        assert session.code("import os; print(os.getuid())").stdout == user
        running.cancel()
        terminal = session.terminal(["id", "-u"])
        shown = b""
        while piece := terminal.read():
            shown += piece
        terminal.close()
        assert shown.decode().strip() == user.strip()


@pytest.mark.engine
def test_E8_a_durable_session_has_one_user_for_all(engine: docker.APIClient) -> None:
    opened = stockade.open(f"docker:{BUSYBOX}", durable=True)
    try:
        user = opened.shell("id -u").stdout
        opened.detach()
        attached = stockade.attach(opened.session_id)
        assert attached.shell("id -u").stdout == user != "65534\n"
        attached.close()
    except BaseException:
        engine.remove_container(f"stockade-{opened.session_id}", force=True)
        raise


@pytest.mark.engine
def test_gvisor_counts_for_itself(engine: docker.APIClient) -> None:
    need("gvisor")
    with stockade.open(f"gvisor:{BUSYBOX}") as session:
        assert session.shell("id -u").stdout == "65534\n"


@pytest.mark.slow
@pytest.mark.engine
def test_an_engine_that_maps_users(engine: docker.APIClient) -> None:
    with own_engine(engine, "--userns-remap=default") as own, stockade.open(own.string) as session:
        assert 20_000 <= int(session.shell("id -u").stdout) < 60_000
