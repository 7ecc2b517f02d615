"""Landlock by its three system calls: what the kernel's version of it can hold.

Of files it is a second layer beside the mounts of the root, which hold the same without it,
so that one mistake in either opens nothing. Of abstract unix sockets it is the only wall where a
sandbox is on the host's own network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable

from stockade.toolkit.local import kernel

__all__ = ["Access", "abi", "has_scopes", "known", "restrict", "scope"]

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
#: Refusals of what runs here fill no log of the host's (ABI 7).
_LOG_SAME_EXEC_OFF, _LOG_SUBDOMAINS_OFF = 1, 4
_LOGGING_ABI, _SCOPES_ABI = 7, 6
#: SCOPE_ABSTRACT_UNIX_SOCKET and SCOPE_SIGNAL.
_SCOPES = 3


class Access:
    """Rights over files, as the kernel numbers them."""

    EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
    REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
    #: Reading and running.
    READ = EXECUTE | READ_FILE | READ_DIR
    #: What makes sense for a file that is no folder.
    OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
    #: Everything that the first version knows: removing and making of each kind, too.
    FIRST = (1 << 13) - 1


#: Rights by the version that brought them.
_SINCE = {1: Access.FIRST, 2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
#: The first version under which a file can be moved or linked into another folder: before it
#: Landlock refuses that everywhere, so there the mounts alone hold the files.
_MOVING_ABI = 2


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The version of the kernel's interface; 0 where Landlock is not there or not active."""
    try:
        return kernel.syscall("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def known(version: int) -> int:
    """All rights over files that a version handles."""
    rights = 0
    for since, brought in _SINCE.items():
        rights |= brought if version >= since else 0
    return rights


def has_scopes(version: int) -> bool:
    """Whether it keeps what it confines away from other processes' abstract unix sockets."""
    return version >= _SCOPES_ABI


def scope() -> None:
    """Confine this process and all below it, for good, to its own abstract unix sockets and
    to signals among themselves. Files and mounts stay as they are. Wants no_new_privs; raises
    OSError, if the kernel has no scopes, too."""
    _enforce(_create(0, _SCOPES, _SCOPES_ABI), abi())


def restrict(readable: Iterable[str], writable: Iterable[str], program: int, version: int) -> None:
    """Confine this process and all below it, for good. Wants no_new_privs; raises OSError.

    ``readable`` folders can be read and run from; of ``writable`` ones everything is allowed
    that is no request to a device, except ``/dev`` and what is below it. ``program`` is a
    descriptor of a file that may be run although no path leads to it.
    """
    files = known(version) if version >= _MOVING_ABI else 0
    scoped = _SCOPES if version >= _SCOPES_ABI else 0
    if not files and not scoped:
        return
    ruleset = _create(files, scoped, version)
    try:
        if files:
            for path in readable:
                _allow(ruleset, path, Access.READ & files)
            for path in writable:
                _allow(ruleset, path, files)
            with contextlib.suppress(OSError):  # of a file in no folder nothing is asked
                _allow_file(ruleset, program, (Access.EXECUTE | Access.READ_FILE) & files)
    except BaseException:
        os.close(ruleset)
        raise
    _enforce(ruleset, version)


def _enforce(ruleset: int, version: int) -> None:
    """From now on; and the ruleset is closed."""
    try:
        flags = _LOG_SAME_EXEC_OFF | _LOG_SUBDOMAINS_OFF if version >= _LOGGING_ABI else 0
        kernel.syscall("landlock_restrict_self", ruleset, flags)
    finally:
        os.close(ruleset)


def _create(files: int, scoped: int, version: int) -> int:
    ruleset = _Ruleset(files, 0, scoped)
    # A kernel takes a structure that is longer than its own only where the rest is zero.
    size = 8 if version < 4 else 16 if version < _SCOPES_ABI else 24
    return kernel.syscall("landlock_create_ruleset", ctypes.byref(ruleset), size, 0)


def _allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= Access.OF_FILES
        _allow_file(ruleset, descriptor, access)
    finally:
        os.close(descriptor)


def _allow_file(ruleset: int, descriptor: int, access: int) -> None:
    rule = _PathBeneath(access, descriptor)
    kernel.syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
