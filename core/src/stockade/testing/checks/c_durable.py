"""Checks of C, second part: what outlives a process (C10, C11)."""

from __future__ import annotations

import contextlib
import time

import pytest

import stockade
from stockade.capabilities import Feature
from stockade.errors import SessionNotFoundError, StockadeError
from stockade.session import Session
from stockade.sessions._collecting import collect
from stockade.testing.base import expect
from stockade.testing.processes import LEAVER, START, OtherProcesses
from stockade.testing.programs import say, unique

#: Attaches to a session, reads what is in it, and ends it.
_ATTACHER = (
    START
    + """
try:
    stockade.attach(given["session"], agent_id="thief", runtime=runtime)
except stockade.SessionNotFoundError:
    print("thief refused")
listed = [record.session_id for record in runtime.ledger.sessions()]
print("listed" if given["session"] in listed else "not listed")
session = stockade.attach(given["session"], agent_id="owner", runtime=runtime)
print(session.shell(f"cat {given['mark']}").stdout, end="")
session.close()
print("closed")
"""
)


class Durability(OtherProcesses):
    """Other processes' way to a session, and its end with no process at all."""

    def test_C10_another_process_attaches_and_destroys(self) -> None:
        if not self.claims(Feature.DURABLE):
            provider = self.make_provider()
            config = provider.config.with_(durable=True)
            self.refused("C10", lambda: provider.create_session("a", config), Feature.DURABLE)
            return
        self.need(Feature.SHELL)
        name = unique("mine")
        with self._ledger(durable="true") as (runtime, string, path):
            with stockade.open(string, agent_id="owner", runtime=runtime) as session:
                session.shell(f"echo of the first > {name}", timeout=self.scaled(20))
                seen = self._attach(string=string, ledger=path, mark=name, session=session)
                right = "thief refused\nlisted\nof the first\nclosed\n"
                expect(seen == right, "C10", repr(right), seen)
                with contextlib.suppress(StockadeError):
                    result = self.run(session, say("x"), timeout=self.scaled(10))
                    expect(not result.success, "C10", "no execution in a destroyed one", result)
            wall = stockade.provider(string, runtime=runtime).wall
            left = [f.words for f in wall.leftovers() if f.session_id == session.session_id]
            expect(not left, "C10", "a session that is gone for all", left)

    def _attach(self, *, session: Session, **given: str) -> str:
        with self._process(_ATTACHER, env={}, session=session.session_id, **given) as process:
            out, err = process.communicate(timeout=self.scaled(50))
            expect(process.returncode == 0, "C10", "a process that attaches", err[-800:])
            return out

    def test_C10_a_session_is_left_and_found_again(self) -> None:
        self.need(Feature.DURABLE, Feature.SHELL)
        name = unique("mine")
        with self._ledger(durable="true") as (runtime, string, _):
            first = stockade.open(string, agent_id="owner", runtime=runtime)
            first.shell(f"echo of the first > {name}")
            first.detach()
            with pytest.raises(SessionNotFoundError):
                stockade.attach(first.session_id, agent_id="thief", runtime=runtime)
            with stockade.attach(first.session_id, agent_id="owner", runtime=runtime) as again:
                seen = again.shell(f"cat {name}").stdout
                expect(seen == "of the first\n", "C10", "the same session", seen)

    def test_C11_a_lifetime_holds_with_no_process_at_all(self) -> None:
        self.need(Feature.DURABLE)
        life = self.scaled(4.0)
        with self._ledger(durable="true", lifetime_seconds=f"{life:g}") as (runtime, string, path):
            began = time.monotonic()
            with self._process(LEAVER, string=string, ledger=path) as process:
                out, err = process.communicate(timeout=self.scaled(50))
            expect(process.returncode == 0, "C11", "a process that leaves a session", err[-800:])
            session_id = out.strip()
            wall = stockade.provider(string, runtime=runtime).wall

            def left() -> list[str]:
                collect(runtime=runtime, strings=[string])
                return [f.words for f in wall.leftovers() if f.session_id == session_id]

            there = left() or time.monotonic() - began >= life
            expect(there, "C11", "a durable session, with its process dead", "none")
            expect(self.until(lambda: not left(), 15), "C11", "nothing left of it", left())
