"""How a sandbox comes to be: a fork of the keeper, in namespaces of its own, that gives up
one right after the other and becomes the supervisor.

As an ordinary user it begins in a user namespace, which is where its rights come from. As
root it makes its root with root's rights and enters a user namespace afterwards, so that the
mounts belong to one that no program is in; there it is somebody that nobody on the host is.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from stockade.toolkit.local import calls, kernel, landlock
from stockade.toolkit.local.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWUSER,
    OWN_NAMESPACES,
)
from stockade.toolkit.local.spec import KeeperSpec
from stockade_landlock import mounts

__all__ = ["PROGRAM", "Birth", "bear"]

#: The number under which the owner passes the supervisor's file.
PROGRAM = 3

_NAME = "sandbox"
#: What the child asks for, and the answer when it is done; anything else is its last word.
_MAP, _GO = b"m", b"g"


class Birth(NamedTuple):
    """What a sandbox is born with; the owner's side fills it in (wall.py)."""

    as_root: bool  #: the keeper is root on the host
    user_namespace: bool  #: one can be had; always so where the keeper is not root
    inside: tuple[int, int]  #: user and group as programs see themselves
    outside: tuple[int, int]  #: what these are on the host
    steps: Sequence[Mapping[str, Any]]  #: Root.steps()
    writable: Sequence[Sequence[Any]]  #: Root.writable(): place, mode, and whose space it shares
    size: str  #: of a writable folder's file system, as its options say it
    shm: str  #: of /dev/shm
    abi: int  #: of Landlock
    filter: str  #: of system calls, in hexadecimal
    network: bool = False  #: the host's own instead of an empty one

    @property
    def ids(self) -> tuple[int, int]:
        """Whom programs run as, as they see it."""
        return self.inside if self.user_namespace else self.outside

    def to_message(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Birth:
        ids = {name: tuple(message[name]) for name in ("inside", "outside")}
        return cls(**{**message, **ids})


def bear(
    birth: Birth,
    spec: KeeperSpec,
    program: int,
    streams: Sequence[int],
    join: Callable[[int], None],
    made: Sequence[int] = (),
) -> int:
    """Start the program of descriptor ``program`` as a sandbox's first; its id on the host.

    ``streams`` become its standard ones. ``join`` puts the process into the session's group
    before it does anything; ``made`` are the mounts that root's keeper made (shown.prepare).
    For a process with one thread. Raises OSError with what failed,
    and then nothing is left.
    """
    ours, theirs = socket.socketpair()
    namespaces = OWN_NAMESPACES & ~(CLONE_NEWNET if birth.network else 0)
    pid = kernel.clone(namespaces | (0 if birth.as_root else CLONE_NEWUSER))
    if pid == 0:
        ours.close()
        _Child(birth, spec, theirs, made).become(program, streams)
    theirs.close()
    try:
        with ours:
            join(pid)
            _attend(ours, pid, birth)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return pid


def _attend(control: socket.socket, pid: int, birth: Birth) -> None:
    """Do for the child what it has no right to, until it has become the program."""
    control.sendall(_GO)
    said = b""
    while piece := control.recv(4096):
        if piece == _MAP:
            _map(f"/proc/{pid}", birth)
            control.sendall(_GO)
        else:
            said += piece
    if said:
        number, _, words = said.decode(errors="replace").partition(" ")
        failure = OSError(words)
        failure.errno = int(number)
        raise failure


def _map(process: str, birth: Birth) -> None:
    for number, kind in enumerate(("uid", "gid")):
        with open(f"{process}/{kind}_map", "w") as file:
            file.write(f"{birth.inside[number]} {birth.outside[number]} 1")


class _Child:
    """In the fork; everything here ends in the program or in ``_exit``."""

    def __init__(
        self, birth: Birth, spec: KeeperSpec, control: socket.socket, made: Sequence[int]
    ) -> None:
        self._birth = birth
        self._spec = spec
        self._made = made
        self._control = control

    def become(self, program: int, streams: Sequence[int]) -> NoReturn:
        spec = self._spec
        try:
            self._hear()
            self._make()
            os.setsid()
            program = fcntl.fcntl(program, fcntl.F_DUPFD_CLOEXEC, 3)  # the low ones are taken
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            if spec.cpus and "cpu" not in spec.held:
                os.sched_setaffinity(0, spec.cpus)
            self._give_up(program)
            os.execve(program, list(spec.argv), dict(spec.env))
        except BaseException as error:
            number = error.errno or 0 if isinstance(error, OSError) else 0
            words = f"{number} {type(error).__name__}: {error}"
            self._control.sendall(words.encode(errors="replace"))
        finally:
            os._exit(127)

    def _hear(self) -> None:
        if self._control.recv(1) != _GO:
            os._exit(127)  # the keeper is gone

    # -- with rights -------------------------------------------------------------

    def _make(self) -> None:
        birth = self._birth
        if not birth.as_root:
            with open("/proc/self/setgroups", "w") as file:
                file.write("deny")
            _map("/proc/self", birth)
        kernel.unshare(CLONE_NEWCGROUP)  # it is in the session's group by now
        kernel.name_host(_NAME)
        if not birth.network:
            kernel.loopback_up()
        owner = birth.outside if birth.as_root else birth.inside
        mounts.enter_root(birth, owner, self._spec.mounts, self._made)

    # -- giving them up ------------------------------------------------------------

    def _give_up(self, program: int) -> None:
        birth = self._birth
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them
        os.umask(0o022)
        if birth.as_root:
            self._leave_root()
        else:
            kernel.drop_bounding()
        calls.give_up_privileges()
        self._tie()
        os.chdir("/")
        writable = [place for place, _, _ in birth.writable]
        writable += [mount.target for mount in self._spec.mounts if not mount.read_only]
        landlock.restrict(["/"], ["/dev", "/proc", *writable], program, birth.abi)
        calls.filter_calls(bytes.fromhex(birth.filter))

    def _leave_root(self) -> None:
        os.setgroups([])
        if self._birth.user_namespace:
            kernel.unshare(CLONE_NEWUSER)
            self._control.sendall(_MAP)
            self._hear()
        kernel.drop_bounding()
        uid, gid = self._birth.ids
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    def _tie(self) -> None:
        """To the keeper's life, which may be over: then the control socket is closed."""
        kernel.die_with_parent()
        try:
            if not self._control.recv(1, socket.MSG_DONTWAIT):
                os._exit(127)
        except BlockingIOError:
            pass
