"""Checks of D19: programs on a terminal, for people and for programs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from stockade.aio import AsyncSession
from stockade.capabilities import Feature
from stockade.errors import ExecutionEndedError
from stockade.executions._terminals import TerminalExecution
from stockade.results import Verdict
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import beat, unique

_WAITS = "echo ready; while :; do sleep 0.05; done"
_SIZE = "{ stty size || python3 -c 'import os; s = os.get_terminal_size(); print(s[1], s[0])'; }"


class Terminals(ConformanceBase):
    """Start, read, write, resize, signal, end."""

    def _needed(self, *more: Feature) -> None:
        self.need(Feature.TERMINAL, Feature.SHELL, *more)

    def _shows(self, terminal: TerminalExecution, *words: bytes) -> bytes:
        """All of these are shown next, in any order."""
        seen, until = b"", time.monotonic() + self.scaled(15)
        while not all(word in seen for word in words):
            try:
                data = terminal.read(timeout=max(0.0, until - time.monotonic()))
            except TimeoutError:
                data = b""
            expect(data, "D19", f"{words} on the terminal", seen)
            seen += data
        return seen

    def test_D19_a_program_has_a_terminal_of_that_size(self) -> None:
        self._needed()
        line = f"[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all three; {_SIZE}; echo $A; pwd; exit 7"
        with self.shared() as session:
            folder = session.provider.config.working_dir
            with session.terminal(
                ["sh", "-c", line], rows=33, columns=101, env={"A": "of-it"}
            ) as terminal:
                words = (b"all three\r\n", b"33 101\r\n", b"of-it\r\n", folder.encode())
                self._shows(terminal, *words)
                expect(terminal.read() == b"", "D19", "its end", "more")
                result = terminal.result()
            seen = (result.verdict, result.exit_code)
            expect(seen == (Verdict.EXITED, 7), "D19", "exit code 7", result)
            expect(terminal.exit_code() == 7, "D19", "exit code 7", terminal.exit_code())

    def test_D19_what_is_typed_arrives_and_is_shown(self) -> None:
        self._needed()
        with self.shared() as session:
            with session.terminal(["sh", "-c", "read x; echo got-$x-; exit 3"]) as terminal:
                terminal.write("w\u00f6rd\n")
                self._shows(terminal, "got-w\u00f6rd-\r\n".encode())
                expect(terminal.exit_code() == 3, "D19", "exit code 3", terminal.exit_code())
                with pytest.raises(ExecutionEndedError):
                    terminal.write(b"late")

    def test_D19_keys_that_mean_a_signal_send_it(self) -> None:
        self._needed()
        line = f"trap 'echo caught; exit 3' INT; {_WAITS}"
        with self.shared() as session, session.terminal(["sh", "-c", line]) as terminal:
            self._shows(terminal, b"ready")
            terminal.write(b"\x03")
            self._shows(terminal, b"caught")
            expect(terminal.exit_code() == 3, "D19", "^C as its signal", terminal.exit_code())

    def test_D19_a_size_and_a_signal_reach_the_program(self) -> None:
        self._needed(Feature.SIGNALS)
        line = f"trap '{_SIZE.replace(chr(39), chr(34))}' WINCH; {_WAITS}"
        with self.shared() as session, session.terminal(["sh", "-c", line]) as terminal:
            self._shows(terminal, b"ready")
            terminal.resize(41, 99)
            self._shows(terminal, b"41 99")
            terminal.signal("SIGKILL")
            result = terminal.result(self.scaled(10))
            seen = (result.verdict, result.signal)
            expect(seen == (Verdict.SIGNALLED, 9), "D19", "the end of that signal", result)

    def test_D19_it_is_listed_and_joined_and_its_deadline_holds(self) -> None:
        self._needed()
        seconds = self.scaled(2.0)
        with self.session() as session:
            terminal = session.terminal(["sh", "-c", _WAITS], timeout=seconds)
            try:
                self._shows(terminal, b"ready")
                listed = session.execution(terminal.execution_id)
                piece = listed.follow().take(self.scaled(10))
                shown = piece.data if piece else b""
                expect(shown.startswith(b"ready"), "D19", "what was shown, read again", shown)
                with pytest.raises(TimeoutError):
                    terminal.read(timeout=0.05)
                result = terminal.result(seconds + self.scaled(5))
                expect(result.verdict is Verdict.TIMED_OUT, "D19", "timed out", result)
            finally:
                terminal.close()

    def test_D19_its_end_takes_its_tree_along(self) -> None:
        self._needed()
        with self.session() as session:
            path = f"/tmp/{unique('beat')}"
            line = f"trap '' HUP; (trap '' HUP; {beat(path)}) & {beat(path)} & {_WAITS}"
            with session.terminal(["sh", "-c", line]) as terminal:
                self._shows(terminal, b"ready")
                began = self.until(lambda: session.shell(f"test -s {path}").success, 10)
                expect(began, "D19", "a heartbeat", "none")
            expect(self.stops_growing(session, path), "D19", "an end of all of it", "it lives on")
            self.usable(session, "D19")

    def test_D19_awaited_it_is_the_same(self) -> None:
        self._needed()

        async def speak(session: AsyncSession) -> bytes:
            async with session.terminal(["sh", "-c", "read x; echo got-$x-"]) as terminal:
                with pytest.raises(TimeoutError):
                    await terminal.read(timeout=0.05)
                await terminal.write("word\n")
                seen = b""
                while data := await terminal.read(timeout=self.scaled(15)):
                    seen += data
                assert await terminal.exit_code() == 0
            return seen

        with self.shared() as session:
            seen = asyncio.run(speak(AsyncSession(session)))
            expect(b"got-word-\r\n" in seen, "D19", "got-word-", seen)

    def test_D19_terminals_are_refused_where_there_are_none(self) -> None:
        if self.claims(Feature.TERMINAL):
            pytest.skip("the wall has terminals")
        with self.shared() as session:
            call: Callable[[], object] = lambda: session.terminal(["sh"])  # noqa: E731
            self.refused("D19", call, Feature.TERMINAL)
