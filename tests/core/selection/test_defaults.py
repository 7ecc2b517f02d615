"""What is taken where nobody names a provider, and what a file may choose (A7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import stockade
from core.selection.test_preference import _awaited, _open
from core.selection.walls import (
    Good,
)
from stockade.capabilities import Isolation
from stockade.errors import (
    ConfigError,
    ProviderStringError,
)
from stockade.selection._spec import Preference, ProviderString
from stockade.sessions._runtime import Runtime


def test_the_default_is_the_variable_else_local(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: (["good"], []))
    monkeypatch.delenv("STOCKADE_PROVIDER", raising=False)
    assert _open(None, ours) == ("good", [])
    monkeypatch.setenv("STOCKADE_PROVIDER", "")
    assert _open(None, ours) == ("good", [])
    monkeypatch.setenv("STOCKADE_PROVIDER", "away | other:img?memory_mb=64")
    assert _open(None, ours) == ("other", ["away"])
    assert _awaited(None, ours) == ("other", ["away"])
    assert _open("good", ours) == ("good", [])


def test_a_wrong_variable_is_named(ours: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKADE_PROVIDER", "good,other")
    with pytest.raises(ProviderStringError, match=r"^STOCKADE_PROVIDER: .*good \| other"):
        stockade.open(runtime=ours)


def test_a_program_reads_no_file(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Whoever fills its working folder would choose its wall."""
    (tmp_path / "stockade.toml").write_text('provider = "other"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOCKADE_PROVIDER", raising=False)
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: (["good"], []))
    assert _open(None, ours)[0] == "good"


# -- what a file may choose ----------------------------------------------------


class Named(Good):
    target_is_name = True


class NoWall(Good):
    isolation = Isolation.NONE


@pytest.fixture
def filed(ours: Runtime) -> Callable[[str], stockade.sessions._providers.WallProvider]:
    ours.walls.add("named", Named)
    ours.walls.add("none", NoWall)

    def choose(text: str) -> stockade.sessions._providers.WallProvider:
        wanted = Preference.parse(text, source="/p/stockade.toml", restricted=True)
        return stockade.provider(wanted, runtime=ours)

    return choose


@pytest.mark.parametrize(
    "text",
    [
        "good",
        "away | good",
        "named:python:3.12-slim?memory_mb=64&timeout_seconds=5",
        "good?max_processes=10&network_enabled=false&labels=a=b&output_policy=end",
    ],
)
def test_a_file_chooses_and_tightens(filed: Any, text: str) -> None:
    assert filed(text).name in ("good", "named")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none", "'none' names a wall that isolates nothing"),
        ("away | none", "isolates nothing"),
        ("good:/home/somebody", "may be a path of yours"),
        ("good?depth=3", "sets depth, which the wall alone understands"),
        ("good?network_enabled=true", "more than the defaults allow .network_enabled"),
        ("good?network_allow=evil.example", "network_allow"),
        ("good?mounts=/home/me:/mnt:rw", "mounts"),
        ("good?memory_mb=none", "memory_mb"),
        ("good?memory_mb=100000", "memory_mb"),
        ("good?read_only_fs=false", "read_only_fs"),
        ("good?env_vars=LD_PRELOAD=/x", "env_vars"),
        ("good?user=1000", "user"),
        ("good?lifetime_seconds=none", "lifetime_seconds"),
        ("good?durable=true", "durable"),
        ("good?ports=8080&network_enabled=true", "network_enabled, ports"),
        ("away | good?cpu_limit=16", "cpu_limit"),
    ],
)
def test_a_file_opens_nothing(filed: Any, text: str, says: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^/p/stockade\.toml: .*{says}.*-p or STOCKADE_PROVIDER"
    ):
        filed(text)


def test_what_a_file_may_not_say_the_caller_may(ours: Runtime) -> None:
    wanted = Preference.parse("good", source="/p/stockade.toml", restricted=True)
    assert stockade.provider(wanted, runtime=ours, memory_mb=4096).config.memory_mb == 4096


def test_a_label_shows_no_options() -> None:
    spec = ProviderString("x", "y", {"env_vars": "TOKEN=hunter2"})
    assert spec.label == "x:y" and "hunter2" not in Preference((spec,)).label  # B4
