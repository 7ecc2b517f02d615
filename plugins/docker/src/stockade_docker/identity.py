"""Whom a session's programs run as, where the caller names nobody (E1, E8).

A kernel counts some things by user, whatever container they are in: inotify's instances
and watches, memory of pipes, pending signals, message queues, descriptors in flight. So a
session under the engine's own kernel has a user of its own, made of its random id: nothing
needs to be kept or asked for, every process that attaches comes to the same one, and of a
thousand sessions at one time two have the same with a chance of 1 in 500, and then share
these counts and nothing else.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import attrs

from stockade.wall import OpenRequest
from stockade_docker.engine import EngineInfo

__all__ = ["NOBODY", "with_user"]

_Request = TypeVar("_Request", bound=OpenRequest)

#: For a runtime with a kernel of its own, which counts for its container alone.
NOBODY = "65534:65534"
#: Given out by no system, above what is given to users' namespaces; below 2^31, past which
#: old engines take a number for root's (CVE-2024-40635).
_FREE = range(0x7000_0000, 0x7FFE_0000)
#: Where the engine maps users, all that there are in a container is 0 to 65535; these are
#: neither an image's usual ones nor nobody.
_MAPPED = range(20_000, 60_000)


def with_user(request: _Request, info: EngineInfo, *, own_kernel: bool) -> _Request:
    """The request with a user stated: the caller's, or else one as described above.

    ``own_kernel``: the runtime brings one for each container.
    """
    if request.config.user is not None:
        return request
    user = NOBODY if own_kernel else _own(request.session_id, info)
    return attrs.evolve(request, config=request.config.with_(user=user))


def _own(session_id: str, info: EngineInfo) -> str:
    number = int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:8], "big")
    ids = _MAPPED if info.maps_users else _FREE
    chosen = ids[number % len(ids)]
    return f"{chosen}:{chosen}"
