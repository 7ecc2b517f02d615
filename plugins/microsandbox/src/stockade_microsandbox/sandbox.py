"""One session: one VM, with the supervisor as a program that is held open in it."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import shlex
import time
from typing import Any

import stockade_supervisor
from stockade.config import SandboxConfig
from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.toolkit.supervised import Death, Link, LinkLost, SupervisedSandbox
from stockade.wall import OpenRequest
from stockade_microsandbox.loop import call
from stockade_microsandbox.streams import ProgramTransport

__all__ = ["OVERHEAD_MB", "VmSandbox"]

_log = logging.getLogger(__name__)

#: What the guest's kernel and agent need beside the session's own memory.
OVERHEAD_MB = 96
#: The writable layer under what the user may write; nothing is meant to be written there.
_LAYER_MB = 16
#: Whom programs run as, where nothing is asked for.
_USER = "10001:10001"
#: Where the supervisor stands in the guest; root's, and not to be written by programs.
_PLACE = "/.stockade/supervisor"
#: It, a keeper, and one that waits: beside the programs that the limit is for.
_OWN_PROCESSES = 3
#: What the image must hold for the wall to prepare the guest.
_NEEDS = "sh, cat, chmod, chown and mkdir"
_PERIOD = 100_000
_ASK_SECONDS = 20.0
_KILL_SECONDS = 20.0
_SETTLE_SECONDS = 3.0
#: MiB of /dev/shm, as engines have it.
_SHM_MB = 64
#: Between two tries to create a VM.
_AGAIN_SECONDS = 0.25

# As root, before any program runs. The package gives each VM a network device, also where its
# policy lets nothing through: it loses its driver (E3). No user namespaces: in its own a program
# has every capability over much of the guest's kernel. Then the session's limits, on the control
# group that the guest's agent puts every program in. `max` is what it is made with.
_LIMITS = """
set -e
mkdir -p {place_folder}
cat >{place}
chmod 755 {place_folder} {place}
for device in /sys/class/net/*/device; do
  [ ! -e "$device" ] || (cd -P "$device"; echo "${{PWD##*/}}" >driver/unbind)
done
for device in /sys/class/net/*/device; do
  [ ! -e "$device" ] || echo "a network device stays: $device"
done
[ ! -e /proc/sys/user/max_user_namespaces ] || echo 0 >/proc/sys/user/max_user_namespaces
cd /sys/fs/cgroup
echo "+cpu +memory +pids" >cgroup.subtree_control
cd microsandbox-workload
echo {memory} >memory.max
[ ! -e memory.swap.max ] || echo 0 >memory.swap.max
echo {processes} >pids.max
echo {cpu} >cpu.max
chown {user} {folder}
chmod 700 {folder}
chmod 1777 /tmp
# Shared memory is everybody's where it has a bound: the agent's own has none, and a volume is
# mounted over it (E2).
bounded=
while read -r _ at _ options _; do
  [ "$at" != /dev/shm ] || case $options in *size=*) bounded=1 ;; *) bounded= ;; esac
done </proc/mounts
if [ -n "$bounded" ]; then chmod 1777 /dev/shm; else chmod 755 /dev/shm; fi
cat memory.max pids.max cpu.max
"""


class VmSandbox(SupervisedSandbox):
    """Made by :meth:`start_vm`; the VM is gone when that fails (C5)."""

    def __init__(self, vm: Any, name: str, link: Link, request: OpenRequest) -> None:
        self._vm = vm
        self.kill_seconds = float(request.options["kill_seconds"])
        self.thaw_seconds = self.kill_seconds / 3
        self.name = name
        # The supervisor is root's, so that programs can neither signal nor trace it (D16).
        uid, _, gid = _user(request.config).partition(":")
        link.user = int(uid), int(gid)
        link.begin_handshake()
        super().__init__(link, startup_seconds=request.config.startup_timeout_seconds)

    @classmethod
    def start_vm(cls, request: OpenRequest, image: str, pull: str) -> VmSandbox:
        """Create the VM, set its limits, start the supervisor. Raises SandboxStartError."""
        config = request.config
        until = time.monotonic() + config.startup_timeout_seconds
        name = request.session_id
        try:
            vm = _created(name, image, pull, request, until)
        except Exception as error:
            _remove_quietly(name)
            raise SandboxStartError(f"the VM of {image} did not start: {error}.") from error
        link = None
        try:
            _set_limits(vm, config, until)
            link = Link(_supervisor(vm))
            return cls(vm, name, link, request)
        except BaseException as error:
            if link is not None:
                link.close()
            with contextlib.suppress(Exception):
                _destroy(vm, name)
            if isinstance(error, LinkLost):
                raise SandboxStartError(
                    f"the VM of {image} started and its supervisor did not answer: {error}."
                ) from error
            raise

    # -- what SupervisedSandbox asks for -----------------------------------------

    def post_mortem(self, *, settle: bool) -> Death | None:
        until = time.monotonic() + (_SETTLE_SECONDS if settle else 0.0)
        while True:
            try:
                call(self._vm.ping, _ASK_SECONDS)
            except TimeoutError:
                return Death("its VM does not answer")
            except Exception as error:
                return Death(f"its VM has ended ({error})")
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def force_end(self) -> None:
        with contextlib.suppress(Exception):
            call(self._vm.kill, _KILL_SECONDS)

    def freeze(self, yes: bool) -> None:
        what = "pause" if yes else "resume"
        try:
            call(getattr(self._vm, what), _ASK_SECONDS)
        except Exception as error:
            raise SandboxLostError(f"the VM could not {what}: {error}") from error

    def destroy(self) -> None:
        try:
            _destroy(self._vm, self.name)
        except Exception as error:
            raise DestroyError(f"the VM {self.name} could not be ended: {error}") from error


def _user(config: SandboxConfig) -> str:
    user = config.user or _USER
    return user if ":" in user else f"{user}:{user}"


def _created(name: str, image: str, pull: str, request: OpenRequest, until: float) -> Any:
    """The VM. The package asks the monitor it brings for its version, and takes one that answers
    after two seconds, on a busy machine, for one that is too old: then it is asked again, for
    as long as a session may take to start."""
    from microsandbox import UnsupportedError

    while True:
        left = max(0.1, until - time.monotonic())
        try:
            return call(functools.partial(_create, name, image, pull, request), left)
        except UnsupportedError as error:
            if time.monotonic() + _AGAIN_SECONDS > until or "runtime" not in str(error):
                raise
        time.sleep(_AGAIN_SECONDS)


async def _create(name: str, image: str, pull: str, request: OpenRequest) -> Any:
    from microsandbox import (
        Image,
        MountConfig,
        Network,
        PullPolicy,
        RootDisk,
        Sandbox,
        SecurityProfile,
    )
    from microsandbox.types import MountKind

    config = request.config
    folder = MountConfig(kind=MountKind.TMPFS, size_mib=config.disk_mb, nosuid=True, nodev=True)
    shared = MountConfig(kind=MountKind.TMPFS, size_mib=_SHM_MB, nosuid=True, nodev=True)
    policies = {
        "missing": PullPolicy.IF_MISSING,
        "always": PullPolicy.ALWAYS,
        "never": PullPolicy.NEVER,
    }
    left = None
    if request.expires_at is not None:
        # Held inside as well (C11); core's own end comes first where its owner lives.
        left = max(1.0, request.expires_at - time.time()) + _KILL_SECONDS
    return await Sandbox.create(
        name,
        replace=True,  # what a try before this one left; nobody else has the name
        image=Image.oci(image, root_disk=RootDisk.tmpfs(_LAYER_MB)),
        memory=_memory(config) + OVERHEAD_MB,
        cpus=max(1, math.ceil(config.cpu_limit or 1)),
        network=Network.none(),
        pull_policy=policies[pull],
        security=SecurityProfile.RESTRICTED,
        volumes={config.working_dir: folder, "/tmp": folder, "/dev/shm": shared},
        hostname="sandbox",
        max_duration=left,
    )


def _memory(config: SandboxConfig) -> int:
    return 2048 if config.memory_mb is None else config.memory_mb


def _processes(config: SandboxConfig) -> str:
    most = config.max_processes
    return "max" if most is None else str(most + _OWN_PROCESSES)


def _set_limits(vm: Any, config: SandboxConfig, until: float) -> None:
    """Raises SandboxStartError where one is not in force afterwards."""
    cpu = "max" if config.cpu_limit is None else str(int(config.cpu_limit * _PERIOD))
    want = {
        "memory": "max" if config.memory_mb is None else str(config.memory_mb << 20),
        "processes": _processes(config),
        "cpu": f"{cpu} {_PERIOD}",
    }
    script = _LIMITS.format(
        **{key: shlex.quote(value) for key, value in want.items()},
        user=_user(config),
        folder=shlex.quote(config.working_dir),
        place=_PLACE,
        place_folder=_PLACE.rpartition("/")[0],
    )
    program = stockade_supervisor.content()

    async def run() -> Any:
        return await vm.exec("sh", ["-c", script], stdin=program)

    try:
        done = call(run, max(1.0, until - time.monotonic()))
    except Exception as error:
        raise SandboxStartError(f"the VM's limits could not be set: {error}") from error
    if done.stdout_text.splitlines() != list(want.values()):
        said = (done.stderr_text or done.stdout_text).strip()[:300]
        raise SandboxStartError(
            f"the VM's limits are not in force: {said}. The image must hold {_NEEDS}.",
            retryable=False,
        )


def _supervisor(vm: Any) -> ProgramTransport:
    from microsandbox import Stdin

    async def start() -> Any:
        return await vm.exec_stream(_PLACE, ["serve"], stdin=Stdin.pipe(), user="0:0", cwd="/")

    try:
        return ProgramTransport(call(start, _ASK_SECONDS))
    except Exception as error:
        raise LinkLost(f"the VM could not start it: {error}") from error


def _destroy(vm: Any, name: str) -> None:
    """Kill and remove it; also where it has ended."""
    from microsandbox import Sandbox, SandboxNotFoundError

    async def end() -> None:
        with contextlib.suppress(Exception):
            await vm.kill()
        with contextlib.suppress(SandboxNotFoundError):
            await Sandbox.remove(name)

    call(end, _KILL_SECONDS)


def _remove_quietly(name: str) -> None:
    """What a creation that failed may have left."""

    async def end() -> None:
        from microsandbox import Sandbox

        with contextlib.suppress(Exception):
            handle = await Sandbox.get(name)
            await handle.kill()
        await Sandbox.remove(name)

    with contextlib.suppress(Exception):
        call(end, _KILL_SECONDS)
