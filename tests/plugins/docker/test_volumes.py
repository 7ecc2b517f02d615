"""The supervisor's volumes on an engine: those of other versions go, when nobody uses them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.types import Mount

import stockade
import stockade_supervisor
from plugins.docker.conftest import BUSYBOX
from stockade.ledger._judging import why_remove
from stockade_docker import delivery, leftovers
from stockade_docker.wall import DockerWall

pytestmark = pytest.mark.engine

#: Of the tests' own volumes: nothing else may be removed here.
_MARK = "0" * 12


@pytest.fixture
def volume(engine: docker.APIClient) -> Iterator[str]:
    """As another version has left it."""
    name = f"{delivery.VOLUME}{_MARK}{secrets.token_hex(6)}"
    engine.create_volume(name)
    yield name
    try:
        engine.remove_volume(name)
    except NotFound:
        pass


def found(wall: DockerWall) -> dict[str, stockade.wall.Leftover]:
    return {one.handle: one for one in wall.leftovers()}


def test_those_of_other_versions_are_left_over_after_a_day(
    engine: docker.APIClient, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = DockerWall()
    with stockade.open(f"docker:{BUSYBOX}"):
        pass  # now the own one is there, and no container uses it
    machine = engine.info()["Architecture"]
    own = f"{delivery.VOLUME}{stockade_supervisor.digest(machine)[:24]}"
    assert engine.inspect_volume(own)
    left = found(wall)
    assert own not in left
    assert why_remove(left[volume], None, None) is None
    monkeypatch.setattr(leftovers, "_VOLUME_SECONDS", -3600.0)
    left = found(wall)
    assert own not in left and why_remove(left[volume], None, None)
    wall.remove(left[volume])
    wall.remove(left[volume])  # gone already
    with pytest.raises(NotFound):
        engine.inspect_volume(volume)


def test_one_that_a_container_uses_stays(engine: docker.APIClient, volume: str) -> None:
    place = Mount(target="/there", source=volume, type="volume")
    settings = engine.create_host_config(mounts=[place])
    made = engine.create_container(BUSYBOX, command=["true"], host_config=settings)["Id"]
    try:
        assert volume not in found(DockerWall())
        with pytest.raises(APIError):
            delivery.remove(engine, volume)
    finally:
        engine.remove_container(made, force=True)
    assert volume in found(DockerWall())


def test_a_volume_of_another_name_is_nobodys(engine: docker.APIClient) -> None:
    name = f"{delivery.VOLUME}{secrets.token_hex(4)}-mine"
    engine.create_volume(name)
    try:
        assert name not in found(DockerWall())
    finally:
        engine.remove_volume(name)


def test_a_session_fills_one_again_that_is_gone(
    engine: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another version's ``gc`` took it from a process that knows it to be there."""
    name = f"{delivery.VOLUME}{_MARK}{secrets.token_hex(6)}"
    monkeypatch.setattr(delivery, "_name", lambda machine: name)
    try:
        for _ in range(2):
            with stockade.open(f"docker:{BUSYBOX}") as session:
                assert session.run(["true"]).success
            until = time.monotonic() + 10
            while True:
                try:
                    delivery.remove(engine, name)
                    break
                except APIError:  # the container is being removed
                    assert time.monotonic() < until
                    time.sleep(0.1)
    finally:
        try:
            engine.remove_volume(name)
        except NotFound:
            pass
