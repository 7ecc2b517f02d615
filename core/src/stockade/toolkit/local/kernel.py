"""The system calls that Python's own modules lack, by ctypes; each raises OSError.

What makes a sandbox runs without packages: the standard library alone, and the toolkit's
own table of calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import Any

from stockade.toolkit.local.table import MACHINES, NUMBERS

__all__ = [
    "attach_mount",
    "change_root",
    "clone",
    "close_mount",
    "detached_mount",
    "die_with_parent",
    "drop_bounding",
    "has_user_namespaces",
    "loopback_up",
    "make_private",
    "mount",
    "name_host",
    "one_by_one",
    "read_only_below",
    "syscall",
    "unmount",
    "unshare",
]

_libc = ctypes.CDLL(None, use_errno=True)
#: The same without giving up the interpreter's lock, which a clone in between would have twice.
_whole = ctypes.PyDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 1 << 17, 1 << 25, 1 << 26, 1 << 27
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 1 << 28, 1 << 29, 1 << 30
#: What every sandbox has for its own.
OWN_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET
_SIGCHLD = 17

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME, MS_BIND = 32, 1024, 2048, 4096
MS_REC, MS_PRIVATE, MS_RELATIME = 1 << 14, 1 << 18, 1 << 21
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE, _AT_EMPTY_PATH = -100, 0x8000, 0x1000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4
_MOUNT_ATTR_IDMAP = 0x0010_0000
_OPEN_TREE_CLONE = 1
#: Both paths of move_mount(2) are empty: descriptors stand for them.
_FROM_DESCRIPTOR, _TO_DESCRIPTOR = 0x4, 0x40
#: What a mount in a user namespace may not lose, as mountinfo spells it.
_KEPT = {
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
}
#: As mountinfo writes them; the backslash last.
_ESCAPED = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_LAST_CAPABILITY = 63
_SIGKILL = 9


class _MountAttribute(ctypes.Structure):
    """``struct mount_attr`` of mount_setattr(2)."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("namespace", ctypes.c_uint64),
    )


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def _number(name: str) -> int:
    number = NUMBERS[name][MACHINES[os.uname().machine][0]]
    assert number is not None, f"this machine has no {name}"
    return number


def _word(value: Any) -> Any:
    return ctypes.c_long(value) if isinstance(value, int) else value


def syscall(name: str, *arguments: Any) -> int:
    """A call that the C library has no function for; integers are passed as longs."""
    number = ctypes.c_long(_number(name))
    return _checked(_libc.syscall(number, *map(_word, arguments)), name)


def clone(flags: int) -> int:
    """Fork into new namespaces: 0 in the child, its id in the parent.

    For a process with one thread, which Python's own fork would leave as it is, too.
    """
    arguments = map(ctypes.c_long, (_number("clone"), flags | _SIGCHLD, 0, 0, 0, 0))
    return _checked(_whole.syscall(*arguments), "clone")


def unshare(flags: int) -> None:
    """Go on in namespaces of one's own."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def name_host(name: str) -> None:
    """What this namespace's host is called; it has no domain."""
    socket.sethostname(name)
    _checked(_libc.setdomainname(b"(none)", ctypes.c_size_t(6)), "setdomainname")


def loopback_up() -> None:
    """Start the loopback of this process's network, so that a server and its client in one
    session meet (E3)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def has_user_namespaces() -> bool:
    """Whether this machine has any; as another than root one has to try."""
    with contextlib.suppress(OSError), open("/proc/sys/user/max_user_namespaces") as file:
        return file.read().strip() != "0"
    return os.path.exists("/proc/self/ns/user")


# -- mounts ----------------------------------------------------------------------


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """As mount(2)."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take it out of sight at once; it goes when nothing uses it any more."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH)), f"umount {target}")


def make_private() -> None:
    """Have no mount of this namespace follow one of the host's, nor lead to one."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def change_root(new: str, old: str) -> None:
    """``new`` becomes the root, and what was it is found at ``old``, below ``new``."""
    paths = (os.fsencode(new), os.fsencode(old))
    syscall("pivot_root", *map(ctypes.c_char_p, paths))
    os.chdir("/")


def read_only_below(folder: str, mounts: str) -> None:
    """Make the mount at ``folder`` and all below it read-only, without devices and set-user-id.

    ``mounts`` is a mountinfo of this process, for kernels that do not do it in one call.
    """
    close_mount(folder, mounts, read_only=True)


def close_mount(folder: str, mounts: str, *, read_only: bool) -> None:
    """Take devices and set-user-id from the mount at ``folder`` and all below it, and where
    that is asked for writing. ``mounts`` as in :func:`read_only_below`."""
    wanted = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | (_MOUNT_ATTR_RDONLY if read_only else 0)
    try:
        _set_mount(_AT_FDCWD, folder, _AT_RECURSIVE, wanted)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # before Linux 5.12
            raise
        one_by_one(folder, mounts, read_only=read_only)


def one_by_one(folder: str, mounts: str, *, read_only: bool = True) -> None:
    """What ``close_mount`` does, by remounting each mount."""
    wanted = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
    with open(mounts, "rb") as file:
        rows = [line.split() for line in file]
    for row in rows:
        place = row[4]
        for written, meant in _ESCAPED:
            place = place.replace(written, meant)
        path = os.fsdecode(place)
        if path == folder or path.startswith(folder + "/"):
            words = row[5].decode().split(",")
            kept = sum(flag for word, flag in _KEPT.items() if word in words)
            mount("none", path, flags=wanted | kept | (MS_RDONLY if "ro" in words else 0))


def detached_mount(folder: str, *, read_only: bool, owners: int) -> int:
    """A mount of ``folder`` that is nowhere yet: without devices, set-user-id and what is
    mounted below it. ``owners``: a user namespace whose map says whom the files' owners are
    to seem. Its descriptor; wants root's rights and Linux 5.12."""
    path = ctypes.c_char_p(os.fsencode(folder))
    made = syscall("open_tree", _AT_FDCWD, path, _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        wanted = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | (_MOUNT_ATTR_RDONLY if read_only else 0)
        _set_mount(made, "", _AT_EMPTY_PATH, wanted | _MOUNT_ATTR_IDMAP, owners)
    except BaseException:
        os.close(made)
        raise
    return made


def attach_mount(made: int, folder: str) -> None:
    """Put a detached mount over a folder of this process's mount namespace, no link."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        empty = ctypes.c_char_p(b"")
        syscall("move_mount", made, empty, place, empty, _FROM_DESCRIPTOR | _TO_DESCRIPTOR)
    finally:
        os.close(place)


def _set_mount(at: int, path: str, how: int, wanted: int, owners: int = 0) -> None:
    attribute = _MountAttribute(wanted, 0, 0, owners)
    size = ctypes.c_size_t(ctypes.sizeof(attribute))
    name = ctypes.c_char_p(os.fsencode(path))
    syscall("mount_setattr", at, name, how, ctypes.byref(attribute), size)


# -- rights ----------------------------------------------------------------------


def drop_bounding() -> None:
    """Have no program that is run from here on gain a capability (E1); wants CAP_SETPCAP."""
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # past the kernel's last one
            _checked(-1, f"dropping capability {capability}")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "parent-death signal")
