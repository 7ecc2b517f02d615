"""What ``top`` asks the walls for: bounded in threads, and in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from core.walls import ScriptedWall
from stockade.ledger._overview import overview, usages
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._providers import provider
from stockade.sessions._runtime import Runtime
from stockade.wall import Leftover, Usage

MOST = [0]


class Asked(ScriptedWall):
    runtime: Runtime

    def leftovers(self) -> Sequence[Leftover]:
        return [
            Leftover(session_id=record.session_id, handle=record.session_id)
            for record in self.runtime.registry.records()
        ]

    def usage(self, leftover: Leftover) -> Usage | None:
        MOST[0] = max(MOST[0], threading.active_count())
        time.sleep(0.01)
        return Usage(processes=1)


def test_many_sessions_are_asked_by_few_threads(tmp_path: Path) -> None:
    runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))
    Asked.runtime = runtime
    runtime.walls._walls["asked"] = Asked
    chosen = provider("asked", runtime=runtime)
    for _ in range(200):
        chosen.open_record("agent")
    before = threading.active_count()
    seen = usages(runtime.workers, runtime.selector.wall_at, overview(runtime.ledger))
    assert len(seen) == 200
    assert MOST[0] - before < 60
    runtime.close_all(30)
