"""The bubblewrap wall: namespaces, a root of its own and seccomp on the host's kernel."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from stockade.capabilities import Isolation
from stockade.errors import SandboxStartError
from stockade.toolkit.local import KeeperProcess, LocalWall, Plan, Root, host, supervisor
from stockade.wall import Check
from stockade_bubblewrap import program
from stockade_bubblewrap.arguments import Argument, Text, arguments, modes, remounts

__all__ = ["BubblewrapWall"]

#: setns with a pidfd came with it.
_MIN_LINUX = (5, 8)
#: Past the standard streams, in the numbers that bwrap is given: the supervisor's file, which
#: the supervisor lets no program have, the socket by which it becomes the keeper's own child, and
#: what bwrap reads.
_PROGRAM, _TIE, _FIRST_TEXT = 3, 4, 5


class BubblewrapWall(LocalWall):
    """``bubblewrap[:rootfs][?options]``."""

    name = "bubblewrap"
    isolation = Isolation.CONTAINER
    summary = "namespaces, a root of its own and seccomp, by bubblewrap; no daemon, no image"
    depth = 1  # bwrap itself, which stays outside until the sandbox is made
    as_user = True

    def launch(self, plan: Plan) -> KeeperProcess:
        bwrap = program.find()
        if bwrap is None:
            raise SandboxStartError(f"bwrap is not installed: {program.INSTALL}.", retryable=False)
        with _Passed() as passed:
            words = [
                *passed.numbered(
                    arguments(
                        plan.root,
                        plan.inside,
                        own_mounts=plan.spec.seen_as is None,
                        network=plan.network,
                    )
                ),
                *("--seccomp", passed.number(plan.filter)),
            ]
            # Not on the command line: the sandbox's first process shows it inside (E7).
            listed = "".join(word + "\0" for word in words).encode("utf-8", "surrogateescape")
            started = [f"/proc/self/fd/{_PROGRAM}", "serve", str(_TIE)]
            argv = [bwrap, "--args", passed.number(listed), "--", *started]
            places = {_PROGRAM: supervisor.descriptor(), **passed.places}
            spec = plan.spec._replace(argv=argv, tie=_TIE, scoped=plan.network)
            return KeeperProcess(spec, places)

    def modes(self, root: Root) -> Sequence[tuple[Sequence[str], int]]:
        return modes(root)

    def remounts(self, root: Root) -> Sequence[tuple[Sequence[str], str]]:
        return remounts(root)

    def checks(self) -> Sequence[Check]:
        serves = host.linux_version() >= _MIN_LINUX
        newer = f"run Linux {'.'.join(map(str, _MIN_LINUX))} or newer"
        found = [
            Check("kernel", serves, platform.release(), "" if serves else newer),
            host.machine_check(),
            program.version_check(),
        ]
        if all(check.ok for check in found):
            found.append(program.namespace_check())
        return found


class _Passed:
    """Texts that bwrap gets as descriptors, each a file of no folder, by their numbers."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}

    def __enter__(self) -> _Passed:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.places.values():
            os.close(descriptor)

    def numbered(self, words: Sequence[Argument]) -> list[str]:
        return [self.number(word.content) if isinstance(word, Text) else word for word in words]

    def number(self, content: bytes) -> str:
        """The number under which a program reads this."""
        descriptor = os.memfd_create("stockade")
        place = _FIRST_TEXT + len(self.places)
        self.places[place] = descriptor
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        return str(place)
