"""Numbers of a watched sandbox (limits.py) that its keeper needs as well, which imports little."""

from __future__ import annotations

__all__ = ["TERMINALS", "buffer_bytes", "grows_far"]

#: Of a sandbox's own; this machine has some thousands for all.
TERMINALS = 64


def buffer_bytes(kind: str) -> int:
    """What a socket's buffer holds at most under these rules: ``wmem`` of what it sends, or
    ``rmem``. A program that enlarges one gets twice the size that it asks for, and asks for no
    more than this machine's largest; and a buffer takes one more message while it has room."""
    usual, most = _sizes(kind)
    return 2 * (usual if grows_far() else 2 * most)


def grows_far() -> bool:
    """Whether the largest size was set far above the usual one, as for fast networks."""
    return any(most > 2 * usual for usual, most in map(_sizes, ("wmem", "rmem")))


def _sizes(kind: str) -> tuple[int, int]:
    """The usual size of a socket's buffer on this machine, and the largest."""
    found = []
    for name in ("default", "max"):
        with open(f"/proc/sys/net/core/{kind}_{name}") as file:
            found.append(int(file.read()))
    return found[0], found[1]
