"""Somebody's wall over ``LocalWall``: what it writes is how a sandbox is born, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

import stockade
from stockade import Session, Verdict
from stockade.capabilities import Isolation
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.toolkit.local import KeeperProcess, LocalSandbox, LocalWall, Plan, supervisor
from stockade.wall import Check, Leftover

pytest.importorskip("stockade_supervisor")

_PROGRAM = 3


class Bare(LocalWall):
    """The supervisor on the host itself: no wall, and all that comes without one."""

    name = "bare-test"
    isolation = Isolation.PROCESS
    summary = "nothing of its own"
    as_user = True

    def checks(self) -> Sequence[Check]:
        return [Check("all", True, "there")]

    def launch(self, plan: Plan) -> KeeperProcess:
        argv = [f"/proc/self/fd/{_PROGRAM}", "serve"]
        spec = plan.spec._replace(argv=argv, env={"PATH": "/usr/bin:/bin"})
        return KeeperProcess(spec, {_PROGRAM: supervisor.descriptor()})


@pytest.fixture
def session() -> Iterator[Session]:
    wall = Bare(options={"limits": "watch"})
    config = stockade.SandboxConfig(working_dir="/usr", memory_mb=64, disk_mb=None)
    provider = WallProvider(wall.name, wall, config, Runtime(discover_plugins=False))
    with Session(provider, provider.open_record("agent", config)) as opened:
        yield opened


def listed(session: Session) -> list[Leftover]:
    return [one for one in Bare().leftovers() if one.session_id == session.session_id]


def test_it_is_a_whole_wall(session: Session) -> None:
    assert isinstance(session._record.sandbox, LocalSandbox)
    assert session.run(["cat"], stdin=b"through").stdout == "through"
    assert session.run(["python3", "-c", "x = bytearray(1 << 28)"]).verdict is (
        Verdict.OUT_OF_MEMORY
    )
    line = "import resource as r; print(r.getrlimit(r.RLIMIT_NPROC)[0])"
    assert 256 <= int(session.run(["python3", "-c", line]).stdout) <= 256 + 4
    (found,) = listed(session)
    assert found.running and "keeper process" in found.words
    session.close()
    assert not listed(session)


def test_C9_what_is_left_of_it_is_found_and_removed(session: Session) -> None:
    execution = session.start(["sleep", "60"])
    (found,) = listed(session)
    Bare().remove(found)
    with pytest.raises(stockade.SandboxLostError):
        execution.result(20)
    assert not listed(session)
