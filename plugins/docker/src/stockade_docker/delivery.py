"""How the supervisor gets into a container: a volume of the engine's, filled once, read-only.

A volume for each supervisor and architecture stays on the engine, as an image does, and is
mounted into every container. So nothing is copied when a session starts, images stay as they
are, and an image without a shell serves.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tarfile
import weakref
from typing import Any

import docker
from docker.errors import NotFound
from docker.types import Mount

import stockade_supervisor
from stockade.errors import SandboxStartError
from stockade.system.forks import FreshLock
from stockade_docker.engine import FAILURES

__all__ = ["COMMAND", "FOLDER", "HELPER", "have", "mount"]

_log = logging.getLogger(__name__)

#: Where it shows inside; nothing else of stockade does.
FOLDER = "/.stockade"
COMMAND = f"{FOLDER}/supervisor"
#: A label: on a container that is no session's, its owner; on a volume, what it holds.
HELPER = "io.stockade.helper"

_filled: weakref.WeakKeyDictionary[docker.APIClient, set[str]] = weakref.WeakKeyDictionary()
_filling = FreshLock()


def _name(machine: str) -> str:
    return f"stockade-supervisor-{stockade_supervisor.digest(machine)[:24]}"


def mount(machine: str) -> Mount:
    """The mount for a container of that architecture's image. Raises SandboxStartError."""
    return Mount(
        target=FOLDER, source=_checked_name(machine), type="volume", read_only=True, no_copy=True
    )


def _checked_name(machine: str) -> str:
    try:
        return _name(machine)
    except stockade_supervisor.UnknownMachineError as error:
        raise SandboxStartError(str(error), retryable=False) from error


def have(
    api: docker.APIClient, image: str, machine: str, owner: str, *, anew: bool = False
) -> None:
    """See to it that the engine has the volume; ``anew``: fill it again, whatever is there.

    Raises SandboxStartError, ImageNotFound and one of FAILURES.
    """
    name = _checked_name(machine)
    known = _filled.setdefault(api, set())
    if name in known and not anew:
        return
    with _filling:
        if name in known and not anew:
            return
        if anew or not _exists(api, name):
            _fill(api, name, image, machine, owner)
        known.add(name)


def _exists(api: docker.APIClient, name: str) -> bool:
    try:
        api.inspect_volume(name)
    except NotFound:
        return False
    return True


def _fill(api: docker.APIClient, name: str, image: str, machine: str, owner: str) -> None:
    """By a container that never starts: the engine writes into what is mounted there.

    A process that dies in between leaves a volume without the program. A container does not
    start then, and the next one that is opened fills it again.
    """
    _log.debug("filling the volume %s", name)
    api.create_volume(name, labels={HELPER: "supervisor"})
    place = Mount(target=FOLDER, source=name, type="volume", no_copy=True)
    made = api.create_container(
        image=image,
        entrypoint=[COMMAND],
        command=[],
        labels={HELPER: owner},
        network_disabled=True,
        host_config=api.create_host_config(mounts=[place]),
    )
    try:
        api.put_archive(made["Id"], FOLDER, _archive(machine))
    finally:
        with contextlib.suppress(*FAILURES):
            api.remove_container(made["Id"], force=True)


def _archive(machine: str) -> bytes:
    data = stockade_supervisor.content(machine)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member: Any = tarfile.TarInfo("supervisor")
        member.size, member.mode = len(data), 0o755
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
