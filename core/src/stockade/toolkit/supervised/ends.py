"""How an execution ends, as this end of the link sees it."""

from __future__ import annotations

import attrs

__all__ = ["End", "FailedToStart", "Failure", "LinkLost"]


class LinkLost(Exception):
    """The supervisor is gone, or what comes from it cannot be trusted."""


class Failure:
    """Why a request could not be carried out."""

    BAD_REQUEST = 1
    NO_FOLDER = 2
    NO_PROCESS = 3
    NO_USER = 4
    NO_INTERPRETER = 5
    NO_RESOURCES = 6
    NO_PORT = 7


@attrs.frozen
class FailedToStart:
    """The request was refused inside: one of Failure's numbers, and the kernel's."""

    why: int
    errno: int


@attrs.frozen(kw_only=True)
class End:
    """How the program ended, as the supervisor saw it."""

    status: int  #: as ``waitpid`` gives it
    out_of_memory: bool  #: a kill for memory was counted that is this program's
    cpu_seconds: float
    peak_bytes: int
