"""How the supervisor comes into a pod, whose image does not hold it: over standard input.

The image must have `sh`, `head`, `tail`, `uname`, `rm` and `chmod`. Nothing of the caller's has
run by then, and the file has no name any more when something does.

A durable pod is entered several times. There a first container writes the supervisor to a
volume, which the session's container sees read-only: so programs cannot change what the next
process that attaches starts.
"""

from __future__ import annotations

import math

import stockade_supervisor
from stockade.config import SandboxConfig

__all__ = ["COMMAND", "FOLDER", "READY", "content", "delivered", "held", "joined", "started"]

FOLDER = "/.stockade"
COMMAND = f"{FOLDER}/supervisor"
#: What is said once standard input has been read; where the API server is, follows.
READY = b"stockade-ready "
#: MiB of /dev/shm, as runtimes have it.
_SHM_MB = 64
#: The supervisor, a keeper, and one that waits; the limit is the programs' beside them.
_OWN_PROCESSES = 3
#: How much later than the owner's own its deadline inside comes.
_INSIDE_LATER = 3.0
_BLOCK = 512

# $1: processes, $2: blocks of a file; empty for no limit. Shells call the first by two names.
# What every container of a cluster has in its environment is none of the programs' business.
_LIMITS = """set -e
api="${KUBERNETES_SERVICE_HOST:--} ${KUBERNETES_SERVICE_PORT:-0}"
unset KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS \\
  KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_PROTO \\
  KUBERNETES_PORT_443_TCP_PORT KUBERNETES_PORT_443_TCP_ADDR
export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
ulimit -c 0
if [ -n "$1" ]; then ulimit -u "$1" 2>/dev/null || ulimit -p "$1"; fi
[ -z "$2" ] || ulimit -f "$2"
"""
# $1: how many bytes there are; then of each machine its name, and where its supervisor begins and
# how long it is. They come in one piece, since a `head` may read on past what it was asked for.
_CHOSEN = """head -c "$1" >"$at.all"
shift
machine=$(uname -m)
while [ "$#" -gt 0 ] && [ "$1" != "$machine" ]; do shift 3; done
[ "$#" -gt 0 ] || { echo "no supervisor is shipped for $machine" >&2; exit 90; }
tail -c "+$2" "$at.all" | head -c "$3" >"$at"
rm "$at.all"
"""
_STARTED = (
    _LIMITS
    + """at=/tmp/.stockade
shift 2
"""
    + _CHOSEN
    + """chmod 500 "$at"
exec 3<"$at"
rm "$at"
cd /
echo "stockade-ready $api"
exec /proc/self/fd/3 serve
"""
)
_DELIVERED = f"""set -e
at={COMMAND}
{_CHOSEN}chmod 555 "$at"
echo "stockade-ready - 0"
"""
_HELD = _LIMITS + f'exec {COMMAND} hold "$3"\n'
_JOINED = _LIMITS + f'cd /\necho "stockade-ready $api"\nexec {COMMAND} serve\n'


def _limits(config: SandboxConfig) -> list[str]:
    most, disk = config.max_processes, config.disk_mb
    own = _OWN_PROCESSES + config.durable
    return [
        "" if most is None else str(most + own),
        # No file that fits may be refused, so a little more than the largest folder.
        "" if disk is None else str((max(disk, _SHM_MB) + 1) * (1 << 20) // _BLOCK),
    ]


def content() -> bytes:
    """What the scripts read: the supervisors of all machines, since nobody says which machine
    the scheduler will choose."""
    return b"".join(map(stockade_supervisor.content, stockade_supervisor.machines()))


def _table() -> list[str]:
    """How ``content`` is laid out, as the scripts take it."""
    words, at = [str(len(content()))], 1
    for machine in stockade_supervisor.machines():
        size = len(stockade_supervisor.content(machine))
        words += [machine, str(at), str(size)]
        at += size
    return words


def started(config: SandboxConfig) -> list[str]:
    """The container's command: reads ``content`` and becomes the supervisor."""
    return ["/bin/sh", "-c", _STARTED, "sh", *_limits(config), *_table()]


def delivered() -> list[str]:
    """The first container's command in a durable pod."""
    return ["/bin/sh", "-c", _DELIVERED, "sh", *_table()]


def held(config: SandboxConfig, left: float | None) -> list[str]:
    """The command of a durable pod's container: it holds the pod, and ends it at its deadline,
    ``left`` seconds from now, whoever lives then (C11)."""
    seconds = [] if left is None else [str(max(1, math.ceil(left + _INSIDE_LATER)))]
    text = _HELD if seconds else _HELD.replace(' "$3"', "")
    return ["/bin/sh", "-c", text, "sh", *_limits(config), *seconds]


def joined(config: SandboxConfig) -> list[str]:
    """What a process that uses a durable pod starts in it."""
    return ["/bin/sh", "-c", _JOINED, "sh", *_limits(config)]
