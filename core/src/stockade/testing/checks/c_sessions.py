"""Checks of C: sessions and the registry."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from stockade.errors import (
    ConfigError,
    DestroyError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
)
from stockade.ledger._interface import MemoryLedger, Recorded
from stockade.results import SessionStatus, Verdict
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.checks.b_configuring import host_command_lines
from stockade.testing.machine.left import Leftovers
from stockade.testing.programs import say, sleep
from stockade.wall import ExecRequest, Output, Running, Sandbox

_WRONG_AGENTS = ("", "x" * 129, "line\nend", "nul\0", "\x1b[2J", None, 7)


class Sessions(ConformanceBase):
    """C: sessions, who reaches them, how they end."""

    def test_C1_an_agents_id_never_shows(self) -> None:
        provider = self.make_provider()
        agent = "conformance agent; $(touch x) ../.."
        session = Session(provider, provider.open_record(agent))
        with session:
            execution = self.start(session, sleep(5), timeout=self.scaled(20))
            self.wait(0.2)
            shown = [line for line in host_command_lines() if agent in line]
            execution.cancel()
            expect(not shown, "C1", "the id in no command line", shown)

    def test_C1_an_agents_id_is_checked(self) -> None:
        provider = self.make_provider()
        for wrong in _WRONG_AGENTS:
            try:
                handle = provider.create_session(wrong)  # type: ignore[arg-type]
            except ConfigError:
                continue
            provider.destroy_session(wrong, handle.session_id)  # type: ignore[arg-type]
            expect(False, "C1", f"ConfigError for the agent_id {wrong!r}", "a session")

    def test_C2_ids_are_long_and_unlike(self) -> None:
        with self.session() as one, self.shared() as two:
            expect(one.session_id != two.session_id, "C2", "two ids", one.session_id)
            ids = [one.session_id, two.session_id]
            ids += [self._execution_id(two) for _ in range(2)]
        for a, b in (ids[:2], ids[2:]):
            alike = sum(x == y for x, y in zip(a, b, strict=False))
            bits = 4 * (min(len(a), len(b)) - alike)  # hexadecimal digits at the least
            expect(bits >= 64 and len(a) >= 22, "C2", "ids with nothing in common", (a, b))

    def _execution_id(self, session: Session) -> str:
        execution = self.start(session, say("x"))
        execution.result(self.scaled(30))
        return execution.execution_id

    def test_C3_a_session_answers_to_its_agent_alone(self) -> None:
        provider = self.make_provider()
        handle = provider.create_session("owner")
        messages = []
        try:
            for agent, session_id in (("thief", handle.session_id), ("owner", "ses-none")):
                for call in (
                    lambda a, s: provider.execute_code(a, s, "true"),
                    provider.session_status,
                    provider.destroy_session,
                ):
                    with pytest.raises(SessionNotFoundError) as caught:
                        call(agent, session_id)
                    messages.append(str(caught.value).replace(session_id, "ID"))
            expect(
                len(set(messages)) == 1, "C3", "one error for wrong agents and ids", set(messages)
            )
            status = provider.session_status("owner", handle.session_id)
            expect(status is SessionStatus.READY, "C3", "the owner's session, ready", status)
        finally:
            provider.destroy_session("owner", handle.session_id)

    def test_C4_the_state_is_the_present_one(self) -> None:
        session = self.open_session()
        states = [session.status]
        try:
            execution = self.start(session, sleep(20), timeout=self.scaled(40))
            states.append(session.status)
            execution.cancel()
            execution.result(self.scaled(10))
            states.append(session.status)
        finally:
            session.close()
        states.append(session.status)
        words = [str(state) for state in states]
        expect(words == ["ready", "executing", "ready", "destroyed"], "C4", "those states", words)
        with pytest.raises(SessionStateError):
            self.run(session, say("x"))

    def test_C5_a_failed_creation_leaves_nothing(self) -> None:
        with self.session():
            pass  # what a wall makes once and keeps for all its sessions is there now
        plain = self.make_provider()
        late = Runtime(discover_plugins=False, ledger=_FailsWhenReady())
        for provider, config in (
            (WallProvider(plain.name, plain.wall, plain.config, late), plain.config),
            (plain, plain.config.with_(startup_timeout_seconds=0.1)),
        ):
            before = provider.runtime.registry.records()
            with Leftovers() as leftovers:
                try:
                    record = provider.open_record("a", config)
                except Exception:
                    record = None
                if record is not None:  # it was quick enough
                    provider.runtime.destroy(record)
                left = [r for r in provider.runtime.registry.records() if r not in before]
                expect(not left, "C5", "no record that counts", left)
                gone = self.until(lambda: not leftovers.left(), 10)
                expect(
                    gone,
                    "C5",
                    "nothing left of the sandbox",
                    leftovers.left(),
                    "Wall.open where it fails, and Sandbox.close",
                )

    def test_C6_close_may_be_called_again_and_destroy_not(self) -> None:
        provider = self.make_provider()
        handle = provider.create_session("a")
        provider.destroy_session("a", handle.session_id)
        with pytest.raises(SessionNotFoundError):
            provider.destroy_session("a", handle.session_id)
        with self.session() as session:
            session.close()
            session.close()

    def test_C6_the_end_leaves_nothing(self) -> None:
        with self.session():
            pass
        with Leftovers() as leftovers:
            with self.session() as session:
                self.run(session, say("x"))
                self.start(session, sleep(30), timeout=self.scaled(60))
                self.wait(0.2)
            gone = self.until(lambda: not leftovers.left(), 5)
            expect(gone, "C6", "nothing left of the sandbox", leftovers.left(), "Sandbox.close")

    def test_C6_a_failed_end_can_be_tried_again(self) -> None:
        provider = self.make_provider()
        record = provider.open_record("a")
        assert record.sandbox is not None
        record.sandbox = _FailsOnce(record.sandbox)
        session = Session(provider, record)
        try:
            with pytest.raises(DestroyError):
                session.close()
            status = provider.session_status("a", session.session_id)
            expect(status is SessionStatus.FAILED, "C6", "kept, marked failed", status)
        finally:
            session.close()
        expect(session.status is SessionStatus.DESTROYED, "C6", "destroyed", session.status)

    def test_C7_destroying_gives_the_callers_a_result(self) -> None:
        with self.session() as session:
            execution = self.start(session, sleep(30), timeout=self.scaled(60))
            self.wait(0.3)
            began = time.monotonic()
            threading.Thread(target=session.close, daemon=True).start()
            result = execution.result(self.scaled(10))
            self.within("C7", 5, began, "a cancelled result")
            expect(result.verdict is Verdict.CANCELLED, "C7", "cancelled", result.verdict)

    def test_C8_sessions_do_not_wait_for_one_another(self) -> None:
        with self.shared() as one, self.session() as two:
            slow = self.runs(one)
            began = time.monotonic()
            self.usable(two, "C8")
            self.within("C8", 5, began, "another session's execution")
            expect(not slow.future.done(), "C8", "both at the same time", "one after the other")
            slow.cancel()
            slow.result(self.scaled(20))

    def test_C8_calls_from_many_threads(self) -> None:
        wrong: list[object] = []
        with self.shared() as session:

            def work(number: int) -> None:
                try:
                    result = self.run(session, say(f"{number}\n"), timeout=self.scaled(40))
                    if result.stdout != f"{number}\n":
                        wrong.append(result)
                except (StockadeError, pytest.skip.Exception) as error:
                    wrong.append(error)

            threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(self.scaled(40))
            skipped = next((e for e in wrong if isinstance(e, pytest.skip.Exception)), None)
            if skipped is not None:
                raise skipped
            late = [thread.name for thread in threads if thread.is_alive()]
            expect(not late, "C8", "16 answers", f"none from {late}")
        expect(not wrong, "C8", "16 right answers", wrong)

    def test_C11_a_busy_session_ends_with_its_lifetime(self) -> None:
        with self.session(lifetime_seconds=self.scaled(2.0)) as session:
            began = time.monotonic()
            execution = self.start(session, sleep(30), timeout=self.scaled(60))
            result = execution.result(self.scaled(20))
            expect(result.verdict is Verdict.CANCELLED, "C11", "cancelled", result.verdict)
            self.within("C11", 8, began, "the end")
            gone = self.until(lambda: session.status is SessionStatus.DESTROYED, 5)
            expect(gone, "C11", "destroyed", session.status)

    def test_C11_an_idle_session_ends(self) -> None:
        with self.session(idle_seconds=self.scaled(1.0)) as session:
            result = self.run(session, sleep(1.5 * self.time_factor), timeout=self.scaled(30))
            expect(result.success, "C11", "a busy session is not idle", result)
            gone = self.until(lambda: session.status is SessionStatus.DESTROYED, 10)
            expect(gone, "C11", "destroyed once idle for too long", session.status)


class _FailsWhenReady(MemoryLedger):
    """The last step of a creation fails, after the wall's own."""

    def change(self, record: Recorded) -> None:
        if record.status is SessionStatus.READY:
            raise OSError("the conformance suite's ledger fails here")


class _FailsOnce(Sandbox):
    """Passes on to a sandbox; its first end fails before it begins."""

    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner
        self._failed = False

    def start(self, request: ExecRequest, output: Output) -> Running:
        return self._inner.start(request, output)

    def close(self) -> None:
        if not self._failed:
            self._failed = True
            raise OSError("the conformance suite makes the first end fail")
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
