"""The checks that inspect publishes for sandbox providers, on every wall that is here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from inspect_ai.util import SandboxEnvironment
from inspect_ai.util._sandbox import self_check
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

import stockade
from conftest import need
from stockade_inspect.environment import StockadeSandbox

pytestmark = pytest.mark.anyio

#: Walls, and what of them the checks run on asyncio and on trio.
WALLS = {
    "landlock": ("asyncio", "trio"),
    "bubblewrap": ("asyncio",),
    "docker:stockade-test/python": ("asyncio", "trio"),
    "gvisor:stockade-test/python": ("asyncio",),
}
CASES = [(wall, backend) for wall, backends in WALLS.items() for backend in backends]
#: What no wall of stockade's holds: programs as root, and accounts that a program adds.
BEYOND = {"test_exec_as_user": "nothing runs as root in stockade's sandboxes"}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    chosen: tuple[str, str] = request.param
    need(chosen[0].partition(":")[0])
    return chosen


@pytest.fixture(scope="module")
def session(case: tuple[str, str]) -> Iterator[stockade.Session]:
    with stockade.open(case[0], agent_id="inspect") as opened:
        yield opened


@pytest.fixture(scope="module")
def anyio_backend(case: tuple[str, str]) -> str:
    return case[1]


@pytest.fixture
async def sandbox_env(
    request: pytest.FixtureRequest, session: stockade.Session
) -> AsyncIterator[SandboxEnvironment]:
    reason = BEYOND.get(request.node.originalname)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    yield StockadeSandbox(session)


def test_there_are_as_many_checks_as_we_know() -> None:
    assert len(self_check.__all__) == 44
