"""The awaitable face has all that the blocking one has, under the same names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import stockade
from stockade import aio
from stockade.executions._execution import Execution
from stockade.executions._output import OutputReader
from stockade.executions._terminals import TerminalExecution
from stockade.files import Files
from stockade.session import Session
from stockade.session._pool import Pool

#: Core's own calls.
OF_CORE = {"begin", "stop", "abort", "conclude", "write_unless"}
LISTENING = {"listen", "forget", "refresh", "wake", "has_more"}
#: Of the second what the first has not, and why.
PAIRS: list[tuple[type, type, set[str]]] = [
    (aio.AsyncSession, Session, set()),
    (aio.AsyncExecution, Execution, OF_CORE),
    (aio.AsyncFiles, Files, set()),
    (aio.AsyncPool, Pool, {"offer", "take_back", "hand_over"}),  # what ``open`` is made of
    (aio.AsyncTerminal, TerminalExecution, {*OF_CORE, "asked", "begun", "pace"}),
    # ``number`` is the output's own; the others are what awaiting is made of.
    (aio.AsyncOutputReader, OutputReader, {"number", "poll", *LISTENING}),
]


def parameters(call: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(call).parameters.values()
    return [(p.name, p.kind, p.default) for p in found if p.name != "self"]


def public(kind: type) -> dict[str, Any]:
    return {
        name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")
    }


def pairs() -> list[Any]:
    return [
        pytest.param(awaitable, plain, name, id=f"{plain.__name__}.{name}")
        for awaitable, plain, without in PAIRS
        for name in sorted(public(plain))
        if name not in without
    ]


@pytest.mark.parametrize(("awaitable", "plain", "name"), pairs())
def test_every_name_is_there_with_the_same_parameters(
    awaitable: type, plain: type, name: str
) -> None:
    ours, theirs = public(awaitable).get(name), public(plain)[name]
    assert ours is not None, f"{awaitable.__name__} lacks {name}"
    if inspect.isfunction(theirs) and inspect.isfunction(ours):
        assert parameters(ours) == parameters(theirs)


def test_opening_attaching_and_pools_take_the_same() -> None:
    assert parameters(aio.open) == parameters(stockade.open)
    assert parameters(aio.attach) == parameters(stockade.attach)
    assert parameters(aio.AsyncPool) == parameters(Pool)
