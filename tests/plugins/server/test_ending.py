"""What a server's end asks of an engine, and what a sandbox's log takes."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

from stockade.errors import DestroyError
from stockade.results import SessionStatus


def test_its_end_ends_few_at_once_and_tries_again() -> None:
    """An engine that is asked to remove hundreds at once fails at some of them."""
    from stockade_server.sandboxes import Sandboxes
    from stockade_server.settings import Settings, Template

    running, most, ended = 0, 0, []

    class Session:
        status = SessionStatus.FAILED

        def __init__(self, number: int) -> None:
            self.number, self.fails = number, number % 10 == 0

        async def close(self) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1
            if self.fails:
                self.fails = False
                raise DestroyError("the engine is busy")
            ended.append(self.number)

    def sandbox(number: int) -> Any:
        return SimpleNamespace(
            session=Session(number), sandbox_id=str(number), timer=None, alive=False, durable=False
        )

    async def scenario() -> None:
        template = Template(name="base", provider="local")
        sandboxes = Sandboxes(Settings(templates={"base": template}, insecure=True))
        sandboxes._known = {str(number): sandbox(number) for number in range(100)}
        await sandboxes.close()

    asyncio.run(scenario())
    assert sorted(ended) == list(range(100)) and 1 < most <= 10


def test_a_log_takes_little_memory() -> None:
    """There is one a sandbox, and it is filled by what the sandbox's owner runs."""
    from stockade_server.journal import Journal

    journal = Journal()
    for number in range(2000):
        journal.note(f"command {number} started: /bin/sh -c 'echo done'", pid=str(number))
    assert len(journal.latest(5000)) == 1000
    assert journal.latest(1)[0].described()["fields"] == {"pid": "1999"}
    assert sum(map(sys.getsizeof, journal._packed)) < 200_000
