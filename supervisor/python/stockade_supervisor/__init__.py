"""The supervisor's built programs, one for each architecture, each checked before its use.

A wall puts :func:`binary` into its sandbox and starts it there with ``serve``; what it says
on its standard streams is read by :mod:`stockade.toolkit.supervised`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform

from stockade_supervisor.hashes import HASHES

__all__ = ["UnknownMachineError", "binary", "content", "digest", "machines"]

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
#: What engines and kernels call the same architecture.
_ALIASES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}


class UnknownMachineError(LookupError):
    """No supervisor is shipped for an architecture; the message says how to build one."""


def machines() -> tuple[str, ...]:
    """The architectures that a supervisor is shipped for, by the kernel's names."""
    return tuple(sorted(HASHES))


def _name(machine: str | None) -> str:
    word = (machine or platform.machine()).lower()
    name = _ALIASES.get(word, word)
    if name not in HASHES:
        raise UnknownMachineError(
            f"no supervisor is shipped for the architecture {word!r}, only for "
            f"{', '.join(machines())}; build one with `python supervisor/build.py {name}` from "
            "the project's source."
        )
    return name


def digest(machine: str | None = None) -> str:
    """The SHA-256 of a supervisor in hexadecimal, by this machine's architecture or another's.

    Raises UnknownMachineError.
    """
    return HASHES[_name(machine)]


def binary(machine: str | None = None) -> str:
    """The path of a supervisor, by default this machine's.

    Its bytes are held against the hash that was recorded when it was built, once a process.
    Raises UnknownMachineError, and RuntimeError where the file is not what was shipped.
    """
    name = _name(machine)
    _checked(name)
    return _path(name)


def content(machine: str | None = None) -> bytes:
    """A supervisor's bytes, checked as by :func:`binary`; for walls that send it somewhere."""
    return _checked(_name(machine))


def _path(name: str) -> str:
    return os.path.join(_FOLDER, f"supervisor-{name}")


@functools.cache
def _checked(name: str) -> bytes:
    with open(_path(name), "rb") as file:
        data = file.read()
    found = hashlib.sha256(data).hexdigest()
    if found != HASHES[name]:
        raise RuntimeError(
            f"the supervisor {_path(name)} is not what was shipped: its SHA-256 is {found}, "
            f"{HASHES[name]} is expected; reinstall stockade-supervisor."
        )
    return data
