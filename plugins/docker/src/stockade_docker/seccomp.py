"""The filter of system calls that a container gets: stockade's own, the engine's, or the caller's.

The own one lies in ``profiles``, in the form that engines read. It allows what programs
need, answers EPERM to what only a system's administration or a debugger needs, and ENOSYS to
what programs can do without and to every call that it does not name. Sockets are unix and
internet ones, and the netlink that libraries ask for interfaces: all of them lie in the
container's own network (E3). A name that an engine's libseccomp does not know is skipped
there; the call is then refused.
"""

from __future__ import annotations

import functools
import json
import os
from importlib.resources import files

from stockade.errors import ConfigError, SandboxStartError
from stockade_docker.engine import EngineInfo

__all__ = ["ENGINE", "FILTER_IT", "UNFILTERED", "filtered", "own", "stated"]

#: The value of the option ``seccomp`` that stands for the engine's own profile.
ENGINE = "engine"

UNFILTERED = "the engine filters no system calls, so its containers are not hardened"
FILTER_IT = "run it on a kernel with seccomp and without seccomp-profile=unconfined"
_OWN = "profiles/own.json"
_ELSEWHERE = (
    "podman reads a profile from a file of its own machine: copy {file} there and name the copy "
    "by the option seccomp, or take podman's own with seccomp=engine"
)


def filtered(choice: str | None, info: EngineInfo) -> bool:
    """Whether containers get a filter of system calls, by the option and the engine's report."""
    return info.seccomp is not None and (choice != ENGINE or info.seccomp != "unconfined")


def stated(choice: str | None, info: EngineInfo, *, local: bool) -> str | None:
    """The profile as the engine is given it: its JSON, its path, or a word; None: nothing.

    ``choice`` is the option's value. ``local``: the engine shares this machine's files.
    Raises SandboxStartError where nothing would be filtered, ConfigError for a profile
    that cannot be had.
    """
    if not filtered(choice, info):
        raise SandboxStartError(
            f"{UNFILTERED}; {FILTER_IT}, or leave the option seccomp out.", retryable=False
        )
    if choice == ENGINE:
        return "builtin" if info.seccomp == "builtin" else None
    if not info.is_podman:
        return own() if choice is None else _read(choice)
    if choice is None:
        return _path_of_own(local=local)
    if local:
        _read(choice)
    return choice


@functools.cache
def own() -> str:
    """The own profile as compact JSON: an engine writes it to its disk again and again."""
    profile = json.loads(files("stockade_docker").joinpath(_OWN).read_text(encoding="utf-8"))
    for rule in profile["syscalls"]:
        del rule["comment"]
    return json.dumps(profile, separators=(",", ":"))


def _path_of_own(*, local: bool) -> str:
    path = str(files("stockade_docker").joinpath(_OWN))
    if not local or not os.path.isfile(path):  # in an archive, say
        raise ConfigError(_ELSEWHERE.format(file=path) + ".")
    return path


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        json.loads(text)
    except OSError as error:
        raise ConfigError(f"seccomp={path!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"seccomp={path!r} is no profile in JSON: {error}.") from error
    return text
