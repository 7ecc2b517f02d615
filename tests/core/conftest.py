"""What several of core's tests need."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.ledger._sqlite import SqliteLedger


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "state" / "ledger.sqlite", timeout_seconds=0.3)
