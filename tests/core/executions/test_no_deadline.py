"""Executions without a deadline, and folders that are relative (D15)."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from core.policies.test_hooks import ExecutionPolicy, runtime
from core.walls import ScriptedWall, make_provider, session, until_killed
from stockade import ConfigError, PolicyError, Verdict
from stockade.plugin import Tighten
from stockade.session import Session


def test_D15_none_is_no_deadline_and_left_out_is_the_sessions() -> None:
    wall = ScriptedWall()
    with session(wall=wall, timeout_seconds=7.0) as opened:
        opened.run(["x"], timeout=None)
        opened.run(["x"])
        opened.run(["x"], timeout=3)
        opened.provider.execute_code("agent", opened.session_id, "x", timeout=None)
    seen = [request.timeout_seconds for request in wall.sandbox.requests]
    assert seen == [None, 7.0, 3, None]


def test_D15_without_a_deadline_only_the_session_ends_it() -> None:
    with session(until_killed, timeout_seconds=0.2) as opened:
        free = opened.start(["x"], timeout=None)
        assert opened.start(["x"]).result(5).verdict is Verdict.TIMED_OUT
        time.sleep(0.3)
        assert not free.future.done()
        opened.close()
        assert free.result(5).verdict is Verdict.CANCELLED


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        (None, "/home/me"),
        (".", "/home/me"),
        ("sub", "/home/me/sub"),
        ("sub/./below/", "/home/me/sub/below"),
        ("..hidden", "/home/me/..hidden"),
        ("/tmp", "/tmp"),
    ],
)
def test_D15_a_relative_folder_starts_at_the_sessions(given: Any, folder: str) -> None:
    wall = ScriptedWall()
    with session(wall=wall, working_dir="/home/me") as opened:
        opened.run(["x"], working_dir=given)
    assert wall.sandbox.requests[0].working_dir == folder


@pytest.mark.parametrize("given", ["", "..", "a/../..", "a\0", "../tmp", "a/../b", 7, "/a/../b"])
def test_D15_what_would_be_a_guess_is_refused(given: Any) -> None:
    with session() as opened, pytest.raises(ConfigError, match="working_dir"):
        opened.run(["x"], working_dir=given)


def test_an_infinite_deadline_says_how_to_ask_for_none() -> None:
    with session() as opened, pytest.raises(ConfigError, match="None for no deadline"):
        opened.run(["x"], timeout=math.inf)


def test_a_policy_gives_a_deadline_to_what_has_none() -> None:
    wall = ScriptedWall()
    policy = ExecutionPolicy(lambda _: Tighten(timeout_seconds=2.0))
    provider = make_provider(wall=wall, runtime=runtime(policy))
    with Session(provider, provider.open_record("a")) as opened:
        opened.run(["x"], timeout=None)
    assert wall.sandbox.requests[0].timeout_seconds == 2.0


@pytest.mark.parametrize(
    "answer",
    [
        {"timeout_seconds": math.nan},
        {"timeout_seconds": math.inf},
        {"timeout_seconds": 0},
        {"timeout_seconds": True},
        {"timeout_seconds": "1"},
        {"output_limit_bytes": 0},
        {"output_limit_bytes": 1.5},
    ],
)
def test_a_limit_of_a_policy_that_is_none_refuses(answer: dict[str, Any]) -> None:
    policy = ExecutionPolicy(lambda _: Tighten(**answer))
    provider = make_provider(runtime=runtime(policy))
    with Session(provider, provider.open_record("a")) as opened:
        with pytest.raises(PolicyError, match=next(iter(answer))):
            opened.run(["x"], timeout=None)
