"""One program to start, in the supervisor's terms."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import attrs

__all__ = ["Flag", "StartRequest"]

_HEAD = struct.Struct("<7I")


class Flag:
    """What a request says beside its words."""

    INPUT = 1
    MERGE = 2
    PTY = 4
    BUILTIN = 8
    WARM = 16
    NAMED = 32
    USER = 64
    AHEAD = 128
    SHOWN = 256  # in no domain of its own: it opens another's streams in /proc, or lends them


@attrs.frozen(kw_only=True)
class StartRequest:
    """One program to start, in the supervisor's terms."""

    argv: Sequence[str | bytes]  #: the program, looked up in PATH inside, and its arguments
    cwd: str = "/"  #: where it starts, absolute
    #: On top of the sandbox's own environment.
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)} names>")
    flags: int = 0  #: of Flag's, added up
    #: What the program finds on descriptor 9, a file of nobody's; None for nothing.
    blob: bytes | None = attrs.field(default=None, repr=False)
    name: str = ""  #: of an interpreter that keeps its state
    uid: int = 0  #: the user, where ``flags`` has USER
    gid: int = 0  #: the group, where ``flags`` has USER
    rows: int = 24  #: of the terminal, where ``flags`` has PTY
    columns: int = 80  #: of the terminal, where ``flags`` has PTY

    def packed(self) -> bytes:
        """As it travels; raises ValueError for a word that holds NUL."""
        env = [f"{name}={value}" for name, value in self.env.items()]
        words = [_bytes(word) for word in (self.name, self.cwd, *self.argv, *env)]
        if any(b"\0" in word for word in words):
            raise ValueError("a word of the request holds NUL")
        head = _HEAD.pack(
            self.flags, self.uid, self.gid, self.rows, self.columns, len(self.argv), len(env)
        )
        return head + b"".join(word + b"\0" for word in words)


def _bytes(word: str | bytes) -> bytes:
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")
