"""Every call of the kernel that can change a file, tried from inside on files of the host (E2).

Each try has a file of its own, so that the host can see afterwards which one got through,
whatever the program inside says.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["NEWEST", "TRIES", "changed", "lay_out", "program"]

#: The last number of the kernel's table that was looked at here; Linux 7.0 has it. A wall
#: answers "no such call" to what is younger, until it has been looked at.
NEWEST = 471

_AT_EMPTY_PATH, _AT_REMOVEDIR = 0x1000, 0x200
_CREATE, _TRUNCATE, _WRITE, _READ_WRITE = 0x40, 0x200, 1, 2
_NEW, _MODE = 0o100666, 0o4777

#: Name, number on x86_64 and on aarch64 (-1: none), arguments. Words stand for: the file's
#: path, its name in the folder, a new path, a folder that is empty, descriptors of the file
#: (opened for reading, or as a mere path), of the folder, of a file and a pipe of one's own,
#: "no folder", an empty path, buffers of the kind that the call takes.
TRIES: tuple[tuple[str, int, int, tuple[Any, ...]], ...] = (
    ("open", 2, -1, ("path", _TRUNCATE)),
    ("open", 2, -1, ("path", _WRITE | _TRUNCATE)),
    ("open", 2, -1, ("path", _READ_WRITE | _TRUNCATE)),
    ("open", 2, -1, ("new", _CREATE, _NEW)),
    ("creat", 85, -1, ("path", _NEW)),
    ("creat", 85, -1, ("new", _NEW)),
    ("openat", 257, 56, ("here", "path", _TRUNCATE)),
    ("openat", 257, 56, ("folder", "name", _WRITE | _TRUNCATE)),
    ("openat", 257, 56, ("here", "new", _CREATE, _NEW)),
    ("openat2", 437, 437, ("here", "path", "how to truncate", 24)),
    ("openat2", 437, 437, ("here", "new", "how to create", 24)),
    ("truncate", 76, 45, ("path", 1)),
    ("ftruncate", 77, 46, ("reading", 1)),
    ("fallocate", 285, 47, ("reading", 0, 0, 8192)),
    ("write", 1, 64, ("reading", "bytes", 1)),
    ("pwrite64", 18, 68, ("reading", "bytes", 1, 0)),
    ("writev", 20, 66, ("reading", "vector", 1)),
    ("pwritev", 296, 70, ("reading", "vector", 1, 0, 0)),
    ("pwritev2", 328, 287, ("reading", "vector", 1, 0, 0, 0)),
    ("sendfile", 40, 71, ("reading", "own", 0, 1)),
    ("splice", 275, 76, ("pipe", 0, "reading", 0, 1, 0)),
    ("copy_file_range", 326, 285, ("own", 0, "reading", 0, 1, 0)),
    ("mmap", 9, 222, (0, 4096, 3, 1, "reading", 0)),
    ("rename", 82, -1, ("path", "new")),
    ("renameat", 264, 38, ("here", "path", "here", "new")),
    ("renameat2", 316, 276, ("here", "path", "here", "new", 0)),
    ("link", 86, -1, ("path", "new")),
    ("linkat", 265, 37, ("here", "path", "here", "new", 0)),
    ("linkat", 265, 37, ("reading", "empty", "here", "new", _AT_EMPTY_PATH)),
    ("symlink", 88, -1, ("name", "new")),
    ("symlinkat", 266, 36, ("name", "here", "new")),
    ("unlink", 87, -1, ("path",)),
    ("unlinkat", 263, 35, ("folder", "name", 0)),
    ("unlinkat", 263, 35, ("here", "empty folder", _AT_REMOVEDIR)),
    ("rmdir", 84, -1, ("empty folder",)),
    ("mkdir", 83, -1, ("new", 0o777)),
    ("mkdirat", 258, 34, ("here", "new", 0o777)),
    ("mknod", 133, -1, ("new", stat.S_IFREG | 0o666, 0)),
    ("mknodat", 259, 33, ("here", "new", stat.S_IFIFO | 0o666, 0)),
    ("chmod", 90, -1, ("path", _MODE)),
    ("fchmod", 91, 52, ("reading", _MODE)),
    ("fchmodat", 268, 53, ("here", "path", _MODE)),
    ("fchmodat2", 452, 452, ("here", "path", _MODE, 0)),
    ("fchmodat2", 452, 452, ("as a path", "empty", _MODE, _AT_EMPTY_PATH)),
    ("chown", 92, -1, ("path", -1, -1)),
    ("lchown", 94, -1, ("path", -1, -1)),
    ("fchown", 93, 55, ("reading", -1, -1)),
    ("fchownat", 260, 54, ("here", "path", -1, -1, 0)),
    ("fchownat", 260, 54, ("as a path", "empty", -1, -1, _AT_EMPTY_PATH)),
    ("utime", 132, -1, ("path", 0)),
    ("utime", 132, -1, ("path", "times")),
    ("utimes", 235, -1, ("path", 0)),
    ("futimesat", 261, -1, ("here", "path", 0)),
    ("futimesat", 261, -1, ("reading", 0, 0)),
    ("utimensat", 280, 88, ("here", "path", "times", 0)),
    ("utimensat", 280, 88, ("reading", 0, 0, 0)),
    ("utimensat", 280, 88, ("as a path", "empty", "times", _AT_EMPTY_PATH)),
    ("setxattr", 188, 5, ("path", "attribute", "bytes", 1, 0)),
    ("lsetxattr", 189, 6, ("path", "attribute", "bytes", 1, 0)),
    ("fsetxattr", 190, 7, ("reading", "attribute", "bytes", 1, 0)),
    ("removexattr", 197, 14, ("path", "own attribute")),
    ("lremovexattr", 198, 15, ("path", "own attribute")),
    ("fremovexattr", 199, 16, ("reading", "own attribute")),
    ("setxattrat", 463, 463, ("here", "path", 0, "attribute", "attribute's value", 16)),
    (
        "setxattrat",
        463,
        463,
        ("reading", "empty", _AT_EMPTY_PATH, "attribute", "attribute's value", 16),
    ),
    ("removexattrat", 466, 466, ("here", "path", 0, "own attribute")),
    ("file_setattr", 469, 469, ("here", "path", "file attributes", 24, 0)),
    ("file_setattr", 469, 469, ("reading", "empty", "file attributes", 24, _AT_EMPTY_PATH)),
    ("ioctl FS_IOC_SETFLAGS", 16, 29, ("reading", 0x40086602, "flags")),
    ("ioctl FS_IOC_FSSETXATTR", 16, 29, ("reading", 0x401C5820, "file attributes")),
    ("ioctl FS_IOC_SETVERSION", 16, 29, ("reading", 0x40087602, "flags")),
    ("ioctl FICLONE", 16, 29, ("reading", 0x40049409, "own")),
    ("fcntl F_SET_RW_HINT", 72, 25, ("reading", 1036, "hint")),
    ("read", 0, 63, ("reading", "room", 1)),
    ("getdents64", 217, 61, ("folder", "room", 4096)),
    ("execve", 59, 221, ("path", 0, 0)),
    ("mount", 165, 40, ("bytes", "place", 0, 0x1020, 0)),
    ("mount_setattr", 442, 442, ("here", "place", 0, "to write", 32)),
    ("open_tree_attr", 467, 467, ("here", "place", 1, "to write", 32)),
    ("umount2", 166, 39, ("place", 2)),
)


def program(folder: str, *, tries: bool = True) -> str:
    """What tries them all inside, on the folder as it is called there.

    It prints, as JSON, each try's error (0: it went through, -1: it ended the program), and
    the numbers past NEWEST that the kernel seems to know. Without ``tries`` it looks for
    these alone, and the folder may be any.
    """
    chosen = json.dumps(TRIES if tries else [])
    return _PROGRAM.format(folder=folder, tries=chosen, newest=NEWEST)


_PROGRAM = """
import ctypes, json, os, struct, sys
tries, newest, place = json.loads({tries!r}), {newest}, {folder!r}
libc = ctypes.CDLL(None, use_errno=True)
column = 1 if os.uname().machine == "x86_64" else 2
own = os.open("own-file", os.O_RDWR | os.O_CREAT, 0o600)
os.write(own, b"own")
pipe, feed = os.pipe()
os.write(feed, b"own")
held = []

def buffer(data):
    held.append(ctypes.create_string_buffer(data, max(len(data), 16)))
    return ctypes.addressof(held[-1])

words = {{
    "here": -100, "empty": buffer(b"\\0"), "own": own, "pipe": pipe, "bytes": buffer(b"x\\0"),
    "vector": buffer(struct.pack("QQ", buffer(b"x\\0"), 1)), "room": buffer(bytes(8192)),
    "how to truncate": buffer(struct.pack("QQQ", 0x200, 0, 0)),
    "how to create": buffer(struct.pack("QQQ", 0x40, 0o666, 0)),
    "times": buffer(struct.pack("4q", 1000, 0, 1000, 0)),
    "attribute": buffer(b"user.stockade\\0"), "own attribute": buffer(b"user.own\\0"),
    "attribute's value": buffer(struct.pack("QII", buffer(b"x\\0"), 1, 0)),
    "file attributes": buffer(struct.pack("QIIII", 0x80, 0, 0, 0, 0)),
    "flags": buffer(struct.pack("Q", 0x40)), "hint": buffer(struct.pack("Q", 2)),
    "place": buffer(place.encode() + b"\\0"),
    "to write": buffer(struct.pack("QQQQ", 0, 1, 0, 0)),
    "folder": os.open(place, os.O_RDONLY | os.O_DIRECTORY),
}}

def attempt(number, arguments):
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        done = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        os._exit(0 if done != -1 else ctypes.get_errno() & 255)
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1

def opened(path, flags):
    try:
        return os.open(path, flags)
    except OSError:
        return -1

answers = []
for index, one in enumerate(tries):
    path = place + "/file-%d" % index
    there = dict(words)
    there["path"] = buffer(path.encode() + b"\\0")
    there["name"] = buffer(b"file-%d\\0" % index)
    there["new"] = buffer(b"%s/new-%d\\0" % (place.encode(), index))
    there["empty folder"] = buffer(b"%s/empty-%d\\0" % (place.encode(), index))
    there["reading"] = opened(path, os.O_RDONLY)
    there["as a path"] = opened(path, os.O_PATH)
    number = one[column]
    arguments = [there.get(word, word) for word in one[3]]
    answers.append(attempt(number, arguments) if number >= 0 else 38)
    for descriptor in (there["reading"], there["as a path"]):
        if descriptor >= 0:
            os.close(descriptor)

path = buffer(b"own-file\\0")
file = own
known = set()
for number in [*range(newest + 1, newest + 40), *range(600, 620), 1023]:
    for arguments in ([path, 0, 0, 0, 0, 0], [-100, path, 0, 0, 0, 0], [file, 0, 0, 0, 0, 0]):
        if attempt(number, arguments) != 38:
            known.add(number)
os.remove("own-file")
print(json.dumps([answers, sorted(known)]))
"""


def lay_out(folder: Path) -> None:
    """A file and an empty folder for each try, which anybody may write to and remove."""
    (folder / "bin").mkdir()  # where a wall wants an interpreter's folder to be one
    for index, _ in enumerate(TRIES):
        file = folder / f"file-{index}"
        file.write_bytes(b"of the host\n" * 10)
        file.chmod(0o766)
        with contextlib.suppress(OSError):  # not every file system has them
            os.setxattr(file, "user.own", b"of the host")
        os.utime(file, ns=(10**18, 2 * 10**18))  # read since it was written: that would show
        empty = folder / f"empty-{index}"
        empty.mkdir()
        empty.chmod(0o777)
    folder.chmod(0o777)


def look(folder: Path) -> dict[str, Any]:
    """All that a call could change, by name; what is not there any more is None."""
    names = sorted(os.listdir(folder))
    seen: dict[str, Any] = {"": names}
    for name in names:
        seen[name] = _look_at(folder / name)
    return seen


def _look_at(path: Path) -> tuple[Any, ...]:
    about = path.lstat()
    kept: list[Any] = [
        about.st_mode,
        about.st_uid,
        about.st_gid,
        about.st_nlink,
        about.st_size,
        about.st_mtime_ns,
        about.st_ctime_ns,
        about.st_atime_ns,
    ]
    with contextlib.suppress(OSError):
        names = os.listxattr(path, follow_symlinks=False)
        kept.append([(name, os.getxattr(path, name)) for name in sorted(names)])
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
        try:
            kept.append(os.read(descriptor, 4096))
            for call in (_flags, _hint):
                with contextlib.suppress(OSError):
                    kept.append(call(descriptor))
        finally:
            os.close(descriptor)
    return tuple(kept)


def _flags(descriptor: int) -> int:
    flags = array.array("i", [0])
    import fcntl  # of Linux, as all that is tried here; the suite is imported elsewhere, too

    fcntl.ioctl(descriptor, 0x80086601, flags)  # FS_IOC_GETFLAGS
    return flags[0]


def _hint(descriptor: int) -> bytes:
    import fcntl

    return bytes(fcntl.fcntl(descriptor, 1035, bytes(8)))  # F_GET_RW_HINT


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The calls that changed something, as TRIES names them."""
    names = {name for name in {*before, *after} if name and before.get(name) != after.get(name)}
    numbers = {int(name.rpartition("-")[2]) for name in names if "-" in name}
    rest = sorted(name for name in names if "-" not in name)
    return [f"{TRIES[number][0]}{TRIES[number][3]}" for number in sorted(numbers)] + rest
