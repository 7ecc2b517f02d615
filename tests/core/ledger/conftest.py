"""An engine that lists what tests put there, and a process that is dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.engine_walls import Engine, EngineWall, OtherWall
from stockade.ledger import _collecting as gc_module
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime
from stockade.wall import Wall


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(EngineWall, "engine", engine, raising=False)
    from stockade.selection._discovery import InstalledPlugin

    monkeypatch.setattr(gc_module, "installed", lambda: [InstalledPlugin("eng", "d", "1", "x")])
    return engine


@pytest.fixture
def runtime(tmp_path: Path, engine: Engine) -> Runtime:
    runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))
    walls: dict[str, type[Wall]] = {"eng": EngineWall, "other": OtherWall}
    runtime.walls._walls.update(walls)
    return runtime


@pytest.fixture(scope="session")
def dead() -> str:
    """A process that has ended."""
    code = "from stockade.system.owner import Owner; print(Owner.current())"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
