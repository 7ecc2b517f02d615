"""The keeper's own clock, looked at in this process."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from stockade_bubblewrap.keeper import Keeper


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_C11_setting_the_clock_changes_no_lifetime(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"expires_at": time.time() + 60, "memory_bytes": None, "cpu_share": None}
    box: Any = SimpleNamespace(
        order=order, held=set(), settled=False, processes=list, count_kills=None
    )
    real, since_boot = time.time, time.monotonic
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keeper = Keeper(ours, box)
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        assert not keeper._is_over()
        left = keeper._until_next()
        assert left is not None and 50_000 < left < 90_000  # milliseconds
        monkeypatch.setattr(time, "monotonic", lambda: since_boot() + 90)
        assert keeper._is_over() and (keeper._until_next() or 0) < 10
