"""How the supervisor gets into a container: a volume of the engine's, filled once, read-only.

A volume for each supervisor and architecture stays on the engine, as an image does, and is
mounted into every container. So nothing is copied when a session starts, images stay as they
are, and an image without a shell serves.
"""

from __future__ import annotations

import calendar
import contextlib
import io
import logging
import re
import tarfile
import time
import weakref
from typing import Any

import docker
from docker.errors import NotFound
from docker.types import Mount

import stockade_supervisor
from stockade.errors import SandboxStartError
from stockade.system.forks import FreshLock
from stockade_docker.engine import FAILURES

__all__ = ["COMMAND", "FOLDER", "HELPER", "VOLUME", "have", "mount", "old_ones", "remove"]

_log = logging.getLogger(__name__)

#: Where it shows inside; nothing else of stockade does.
FOLDER = "/.stockade"
COMMAND = f"{FOLDER}/supervisor"
#: A label: on a container that is no session's, its owner; on a volume, what it holds.
HELPER = "io.stockade.helper"
#: How the volumes' names begin; a part of the program's hash follows.
VOLUME = "stockade-supervisor-"
_PATTERN = re.compile(VOLUME + "[0-9a-f]{24}")

_filled: weakref.WeakKeyDictionary[docker.APIClient, set[str]] = weakref.WeakKeyDictionary()
_filling = FreshLock()


def _name(machine: str) -> str:
    return f"{VOLUME}{stockade_supervisor.digest(machine)[:24]}"


def old_ones(api: docker.APIClient) -> list[tuple[str, float]]:
    """The volumes of other versions that no container uses: names, and when they were made.

    Raises one of FAILURES.
    """
    ours = {_name(machine) for machine in stockade_supervisor.machines()}
    # By name: an engine makes one without a label, where a container asks for it.
    listed = api.volumes(filters={"name": VOLUME, "dangling": True}).get("Volumes") or []
    return [
        (volume["Name"], _moment(volume.get("CreatedAt") or ""))
        for volume in listed
        if _PATTERN.fullmatch(volume["Name"]) and volume["Name"] not in ours
    ]


def _moment(text: str) -> float:
    """Of an engine's word for it, in whole seconds; now, where it is none."""
    try:
        return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return time.time()


def remove(api: docker.APIClient, name: str) -> None:
    """Remove such a volume; gone already is well too. Raises one of FAILURES.

    A process of that version which opens a session later fills it again, as the first did; the
    engine refuses to remove one that a container uses.
    """
    with contextlib.suppress(NotFound):
        api.remove_volume(name)


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
