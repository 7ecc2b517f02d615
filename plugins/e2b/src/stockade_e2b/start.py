"""How the supervisor comes into a sandbox, and what is made sure of before it starts."""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

import attrs

import stockade_supervisor
from stockade.config import SandboxConfig
from stockade.errors import ConfigError, SandboxStartError
from stockade_e2b.service import failed_start
from stockade_e2b.streams import ProcessTransport

__all__ = ["PROGRAMS", "Started", "measured", "refused_by_sandbox", "start_supervisor"]

#: Whom programs run as where the supervisor is root's.
PROGRAMS = 10001
_ROOT = "root"
_ASK_SECONDS = 20.0
_UPLOAD_SECONDS = 60.0

#: What the script below ends with where something is not as it must be.
_MACHINE, _HASH, _FOLDER, _WRITABLE, _CLOSED = 90, 91, 92, 93, 94

_LIMITS = "stockade-limit"

# Arguments: the supervisors' folder, the working folder, whether the root is to be read-only, and
# of each machine its name and its supervisor's hash. The files are removed before any program
# runs. What holds of the limits is said for `measured`, where the service does not say it.
_CHECKED = """
at=$1 folder=$2 kind=$3
shift 3
machine=$(uname -m)
while [ "${{1:-$machine}}" != "$machine" ]; do shift 2; done
[ "$#" -gt 0 ] || {{ echo "$machine" >&2; exit {machine}; }}
chmod 500 "$at/$machine" || exit {hash}
exec 3<"$at/$machine"
rm -rf "$at"
found=$(sha256sum </proc/self/fd/3) || exit {hash}
[ "${{found%% *}}" = "$2" ] || exit {hash}
{{
  most=$(cat /proc/sys/kernel/pid_max)
  read -r word </sys/fs/cgroup/pids.max && [ "$word" != max ] && most=$word
  echo "{limits} processes $most"
  read -r _ memory _ </proc/meminfo && echo "{limits} memory $memory"
  echo "{limits} cpus $(nproc)"
  echo "{limits} disk $(df -Pk "$folder" | tail -n 1)"
}} 4>&2 2>/dev/null >&4
"""

#: As root: a root of its own for processes and mounts, in which the supervisor is process 1.
_AS_ROOT = """
mkdir -p "$folder" || exit {folder}
chown {uid}:{uid} "$folder" && chmod 700 "$folder" || exit {folder}
export folder kind
exec unshare --mount --pid --fork --kill-child -- /bin/sh -c '
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$folder" "$folder"
mount --bind /tmp /tmp
for at in /dev/shm /var/tmp; do
  mkdir -p "$at"
  mount -t tmpfs -o nosuid,nodev,mode=1777,size=64m tmpfs "$at"
done
if [ "$kind" = ro ]; then
  while read -r _ at _; do
    case $at in "$folder"|/tmp|/var/tmp|/proc|/proc/*|/dev|/dev/*|/sys|/sys/*) ;;
      *) mount -o remount,bind,ro "$at" || [ ! -e "$at" ] ;;
    esac
  done </proc/self/mounts
fi
exec setpriv --no-new-privs /proc/self/fd/3 serve'
"""

#: As the sandbox's own user: nothing can be made, so it is looked at.
_AS_USER = """
cd "$folder" 2>/dev/null && [ -w . ] || exit {folder}
root=
while read -r _ at _ options _; do [ "$at" != / ] || root=$options; done </proc/self/mounts
case $kind,$root in rw,ro|rw,ro,*) exit {closed} ;; esac
if [ "$kind" = ro ]; then
  for at in / /bin /etc /home /lib /mnt /opt /root /run /srv /usr /var /var/lib; do
    [ "$at" = "$folder" ] || [ ! -w "$at" ] || {{ echo "$at" >&2; exit {writable}; }}
  done
fi
cd /
exec /proc/self/fd/3 serve
"""
_WORDS = {
    "machine": _MACHINE,
    "hash": _HASH,
    "folder": _FOLDER,
    "writable": _WRITABLE,
    "closed": _CLOSED,
    "uid": PROGRAMS,
    "limits": _LIMITS,
}


@attrs.frozen
class Started:
    """A supervisor that was started, and has said nothing yet."""

    transport: ProcessTransport
    rooted: bool  #: it is root's, so programs are to run as another user


def start_supervisor(sandbox: Any, config: SandboxConfig) -> Started:
    """Bring it in and start it: as root where the service lets us, so that programs have no
    power over it. Raises SandboxStartError, LinkLost."""
    place = f"/tmp/.stockade-{secrets.token_hex(8)}"
    rooted = _is_root(sandbox)
    user = _ROOT if rooted else None
    _upload(sandbox, place, user)
    script = (_CHECKED + (_AS_ROOT if rooted else _AS_USER)).format(**_WORDS)
    argv = ["/bin/sh", "-c", script, "sh", place, config.working_dir]
    argv += ["ro" if config.read_only_fs else "rw"]
    for machine in stockade_supervisor.machines():
        argv += [machine, stockade_supervisor.digest(machine)]
    return Started(ProcessTransport.start(sandbox, argv, user), rooted)


def _is_root(sandbox: Any) -> bool:
    """Whether the service lets us be root inside, which one with a single user refuses."""
    from e2b.exceptions import SandboxException

    try:
        return bool(sandbox.files.exists("/", user=_ROOT, request_timeout=_ASK_SECONDS))
    except SandboxException:
        return False


def _upload(sandbox: Any, place: str, user: str | None) -> None:
    """Write the supervisors of all machines, in one call."""
    from e2b.sandbox.filesystem.filesystem import WriteEntry

    files = [
        WriteEntry(path=f"{place}/{machine}", data=stockade_supervisor.content(machine))
        for machine in stockade_supervisor.machines()
    ]
    try:
        sandbox.files.write_files(files, user=user, request_timeout=_UPLOAD_SECONDS)
    except Exception as error:
        raise failed_start("the supervisor could not be brought in", error) from error


def measured(said: bytes) -> dict[str, float]:
    """What the limits are as they show inside, by the names of the configuration."""
    found: dict[str, float] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        words = line.split()
        if words[:1] != [_LIMITS] or len(words) < 3:
            continue
        with contextlib.suppress(ValueError, IndexError):
            if words[1] == "processes":
                found["max_processes"] = float(words[2])
            elif words[1] == "memory":
                found["memory_mb"] = float(words[2]) / 1024
            elif words[1] == "cpus":
                found["cpu_limit"] = float(words[2])
            elif words[1] == "disk":
                found["disk_mb"] = float(words[3]) / 1024
    return found


def refused_by_sandbox(
    transport: ProcessTransport, config: SandboxConfig, template: str
) -> Exception | None:
    """Why the script did not start it; None where it did, or nobody knows."""
    lines = transport.stderr.decode("utf-8", "replace").splitlines()
    said = "; ".join(line for line in lines if not line.startswith(_LIMITS))[-300:]
    folder = config.working_dir
    words = {
        _HASH: f"the supervisor that came into {template} is not what was sent, or the template "
        "has no sha256sum",
        _MACHINE: f"no supervisor is shipped for the machine of {template}, which is {said}",
        _WRITABLE: f"{said} can be written in {template}, so its root is not read-only; open it "
        "with read_only_fs=false, or have the template's root made read-only",
        _CLOSED: f"the root of {template} is read-only; leave read_only_fs out",
    }
    code = transport.exit_code
    if code == _FOLDER:
        return ConfigError(
            f"working_dir={folder!r} is no folder of {template} that can be written; name one "
            "that is."
        )
    if code in words:
        return SandboxStartError(f"{words[code]}.", retryable=False)
    if code and said:
        return SandboxStartError(f"{template} did not start: {said}.", retryable=False)
    return None
