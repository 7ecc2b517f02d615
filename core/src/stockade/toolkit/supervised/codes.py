"""The file server's numbers: a kernel's errors, and refusals of its own.

They are Linux' numbers whatever this machine is, so they are named here.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import NoReturn

from stockade.errors import FileTooLargeError, SpecialFileError, StockadeError

__all__ = ["failed", "words"]

_ERRORS = {
    1: "EPERM",
    2: "ENOENT",
    4: "EINTR",
    5: "EIO",
    6: "ENXIO",
    9: "EBADF",
    11: "EAGAIN",
    12: "ENOMEM",
    13: "EACCES",
    16: "EBUSY",
    17: "EEXIST",
    18: "EXDEV",
    19: "ENODEV",
    20: "ENOTDIR",
    21: "EISDIR",
    22: "EINVAL",
    23: "ENFILE",
    24: "EMFILE",
    26: "ETXTBSY",
    27: "EFBIG",
    28: "ENOSPC",
    29: "ESPIPE",
    30: "EROFS",
    31: "EMLINK",
    32: "EPIPE",
    34: "ERANGE",
    36: "ENAMETOOLONG",
    38: "ENOSYS",
    39: "ENOTEMPTY",
    40: "ELOOP",
    75: "EOVERFLOW",
    95: "EOPNOTSUPP",
    116: "ESTALE",
    122: "EDQUOT",
}
_SPECIAL = {200: "a FIFO", 201: "a socket", 202: "a device"}
_TOO_LARGE, _TOO_MANY, _SAME, _INTO_ITSELF, _TOO_DEEP = 203, 204, 205, 206, 207
_TEXTS = {
    _TOO_LARGE: "it is too large",
    _TOO_MANY: "there are too many entries",
    _SAME: "both are the same file",
    _INTO_ITSELF: "a folder cannot be brought into itself",
    _TOO_DEEP: "the folders are too deep",
    210: "the records that were sent are damaged",
    211: "the file server does not know the command",
}
#: What a local call raises as PermissionError, or would with the same right.
_NO_RIGHT = ("EACCES", "EPERM", "EROFS")


def words(code: int) -> str:
    """What a number means, for people."""
    if code in _ERRORS:
        return os.strerror(getattr(errno, _ERRORS[code], 0) or errno.EIO)
    if code in _SPECIAL:
        return f"it is {_SPECIAL[code]}, not a regular file"
    return _TEXTS.get(code, f"error {code}")


def failed(
    code: int, path: str, *, max_bytes: int = 0, max_entries: int = 0, other: str | None = None
) -> NoReturn:
    """Raise what a local call would (F2). ``other``: the second of two paths."""
    if code in _SPECIAL:
        raise SpecialFileError(path, _SPECIAL[code])
    if code == _TOO_LARGE:
        raise FileTooLargeError(path, max_bytes)
    if code == _TOO_MANY:
        raise FileTooLargeError(path, max_entries, "entries")
    if code == _SAME:
        raise shutil.SameFileError(errno.EINVAL, words(code), path, None, other)
    if code == _INTO_ITSELF:
        raise OSError(errno.EINVAL, words(code), path, None, other)
    name = _ERRORS.get(code)
    if name is None:
        raise StockadeError(f"the sandbox's file server failed at {path!r}: {_unknown(code)}.")
    number = getattr(errno, name, errno.EIO)
    kind = PermissionError if name in _NO_RIGHT else OSError
    raise kind(number, os.strerror(number), path, None, other)


def _unknown(code: int) -> str:
    if 128 < code < 200:
        return f"it was ended by signal {code - 128}, for which a memory limit is the usual cause"
    return words(code)
