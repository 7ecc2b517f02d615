"""Settings: from the environment, checked, and changed while the program runs."""

from __future__ import annotations

from typing import Any

import pytest

import stockade
from stockade import ConfigError, Settings


def test_settings_come_from_the_environment() -> None:
    found = Settings.from_environment(
        {
            "STOCKADE_MAX_SESSIONS": "5",
            "STOCKADE_QUEUE_SECONDS": "1.5",
            "STOCKADE_MAX_WAITING": "none",
            "STOCKADE_START_RETRIES": "",
        }
    )
    assert found == Settings(max_sessions=5, queue_seconds=1.5)
    for name, value in (("MAX_SESSIONS", "0"), ("QUEUE_SECONDS", "nan"), ("START_RETRIES", "x")):
        with pytest.raises(ConfigError, match=f"STOCKADE_{name}"):
            Settings.from_environment({f"STOCKADE_{name}": value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_sessions": 0},
        {"max_sessions": True},
        {"max_sessions": 1.5},
        {"queue_seconds": -1},
        {"queue_seconds": float("inf")},
        {"start_retries": None},
        {"shutdown_seconds": "1"},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Settings(**wrong)


def test_configure_changes_the_default_runtime() -> None:
    before = stockade.default_runtime().settings
    try:
        assert stockade.configure(max_sessions=7).max_sessions == 7
        assert stockade.configure(queue_seconds=1).max_sessions == 7
        with pytest.raises(ConfigError, match="did you mean 'max_sessions'"):
            stockade.configure(max_session=1)
    finally:
        stockade.default_runtime().settings = before
