"""Checks of D, third part: ends of whole trees (D6, D7, D12, D14)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from stockade.aio import AsyncSession
from stockade.capabilities import Feature
from stockade.errors import SandboxLostError
from stockade.results import SessionStatus, Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import Program, beat, say, sleep, unique


class Trees(ConformanceBase):
    """Deadlines, cancels, children, deaths."""

    def test_D6_a_timeout_comes_in_time(self) -> None:
        with self.shared() as session:
            began = time.monotonic()
            limit = self.scaled(1.0)
            result = self.run(session, sleep(30, after="so far"), timeout=limit)
            self.within("D6", 3.0, began, "the end")
            expect(result.verdict is Verdict.TIMED_OUT, "D6", "timed out", result.verdict)
            expect(result.stdout == "so far\n", "D6", "the output so far", result.stdout)
            expect(session.status is SessionStatus.READY, "D6", "ready", session.status)
            self.usable(session, "D6")

    def test_D6_a_timeout_ends_the_whole_tree(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            path = unique("beat")
            line = (
                f"trap '' TERM INT HUP; ({beat(path)}) & setsid sh -c '{beat(path)}' & "
                f"(setsid sh -c '({beat(path)}) & {beat(path)}' &); echo so far; {beat(path)}"
            )
            began = time.monotonic()
            result = session.shell(line, timeout=self.scaled(1.0))
            self.within("D6", 3.0, began, "the end")
            expect(result.verdict is Verdict.TIMED_OUT, "D6", "timed out", result.verdict)
            expect(result.stdout == "so far\n", "D6", "the output so far", result.stdout)
            ended = self.stops_growing(session, path)
            expect(
                ended,
                "D6",
                "no process left",
                "a heartbeat",
                "Running.kill: children, daemons "
                "made with setsid, double forks, and who ignores SIGTERM",
            )

    def test_D6_a_timeout_leaves_other_executions_alone(self) -> None:
        with self.shared() as session:
            other = self.start(session, _later(self.scaled(2.0)), timeout=self.scaled(30))
            self.run(session, sleep(30), timeout=self.scaled(0.5))
            result = other.result(self.scaled(20))
            expect(result.stdout == "alive", "D6", "alive", result)

    def test_D6_a_bomb_of_forks_ends(self) -> None:
        self.need(Feature.PROCESSES, Feature.SHELL)
        with self.session(max_processes=64) as session:
            line = "f() { setsid sleep 20 & f & f & }; f; sleep 20"
            began = time.monotonic()
            session.shell(line, timeout=self.scaled(1.0))
            self.within("D6", 4.0, began, "the end of a bomb")
            usable = self.until(lambda: self.run(session, say("x")).success, 10)
            expect(usable, "D6", "a usable session", "failure")

    def test_D7_a_child_left_behind_holds_nothing_up(self) -> None:
        self.need(Feature.SHELL)
        lives = self.claims(Feature.BACKGROUND)
        with self.session() as session:
            began = time.monotonic()
            result = session.shell(
                f"({beat('beat')}) & echo done; sleep 0.3", timeout=self.scaled(15)
            )
            self.within("D7", 5.0, began, "the return")
            expect(result.stdout == "done\n", "D7", "done", result)
            ended = self.stops_growing(session, "beat")
            right = "a child that lives on" if lives else "a child that ends with its execution"
            expect(ended is not lives, "D7", right, f"ended: {ended}")

    def test_D12_cancel_from_another_thread(self) -> None:
        with self.shared() as session:
            execution = self.start(session, sleep(30), timeout=self.scaled(60))
            self.wait(0.3)
            began = time.monotonic()
            execution.cancel()
            result = execution.result(self.scaled(20))
            self.within("D12", 2.5, began, "the end")
            expect(result.verdict is Verdict.CANCELLED, "D12", "cancelled", result)
            execution.cancel()  # after the end it does nothing
            self.usable(session, "D12")

    def test_D12_cancel_ends_the_whole_tree(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            path = unique("beat")
            execution = session.start(
                shell=f"setsid sh -c '{beat(path)}' & {beat(path)}", timeout=self.scaled(60)
            )
            self.wait(0.5)
            execution.cancel()
            result = execution.result(self.scaled(20))
            expect(result.verdict is Verdict.CANCELLED, "D12", "cancelled", result)
            expect(self.stops_growing(session, path), "D12", "no process left", "a heartbeat")

    def test_D12_cancelling_the_await(self) -> None:
        with self.shared() as session:
            self._form(session, sleep(30))  # skips here, not in the loop

            async def main() -> float:
                task = asyncio.create_task(self._awaited(session))
                await asyncio.sleep(self.scaled(0.3))
                began = time.monotonic()
                await _cancel(task)
                return began

            self._ends(session, asyncio.run(main()))

    def test_D12_cancelling_a_loop_over_a_stream(self) -> None:
        with self.shared() as session:
            seconds = self.scaled(6)
            request = self._form(session, sleep(seconds, after="begun"))

            async def read(begun: asyncio.Event) -> None:
                async for _ in AsyncSession(session).stream(**request):
                    begun.set()

            async def main() -> float:
                begun = asyncio.Event()
                task = asyncio.create_task(read(begun))
                await asyncio.wait_for(begun.wait(), self.scaled(20))
                began = time.monotonic()
                await _cancel(task)  # it waits for a piece that comes only at the program's end
                return began

            self._ends(session, asyncio.run(main()))

    def _ends(self, session: Session, began: float) -> None:
        """What was cancelled at this moment has ended in time, and nothing runs any more."""
        self.within("D12", 2.5, began, "the end")
        ready = self.until(lambda: session.status is SessionStatus.READY, 1)
        expect(ready, "D12", "ready", session.status)

    async def _awaited(self, session: Session) -> None:
        request = self._form(session, sleep(30))
        awaitable = AsyncSession(session)
        if "shell" in request:
            await awaitable.shell(request["shell"])
        elif "argv" in request:
            await awaitable.run(request["argv"])
        else:
            await awaitable.code(request["code"], request["language"])

    def test_D14_a_sandbox_that_dies(self) -> None:
        with self.session() as session:
            execution = self.start(session, sleep(30, after="so far"), timeout=self.scaled(60))
            self.wait(1.0)
            began = time.monotonic()
            self.kill_sandbox(session)
            with pytest.raises(SandboxLostError) as caught:
                execution.result(self.scaled(20))
            self.within("D14", 5.0, began, "the error")
            partial = caught.value.partial
            expect(partial is not None and partial.stdout == "so far\n", "D14", "so far", partial)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _later(seconds: float) -> Program:
    """Wait, then say so."""
    quiet, alive = sleep(seconds), say("alive")
    return Program(
        name="later",
        sh=f"{quiet.sh}; {alive.sh}",
        python=f"{quiet.python}\n{alive.python}",
    )
