"""Checks of D17 and D18: what reaches a program while it runs, and who reads what it prints."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from stockade.aio import AsyncSession
from stockade.capabilities import Feature
from stockade.errors import ExecutionEndedError, ExecutionNotFoundError, InputClosedError
from stockade.executions._execution import Execution
from stockade.executions._output import OutputReader
from stockade.results import Verdict
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import Program, say, sleep
from stockade.values.pipe import PIPE

#: Says that it hears, then what it heard; whatever else runs in its group says so, too.
_HEARS = """\
(trap 'echo child heard one' USR1; trap 'echo child heard two; exit' USR2; echo child ready
while :; do sleep 0.05; done) &
trap 'echo heard one' USR1
trap 'echo heard two' USR2
echo ready
while :; do sleep 0.05; done
"""
_WORDS = b"one\ntwo\n"


def _twice(gap: float) -> Program:
    """Print two lines, so many seconds apart."""
    return Program(
        name="twice",
        sh=f"echo one; sleep {gap:g}; echo two",
        python=f"import time\nprint('one', flush=True)\ntime.sleep({gap:g})\nprint('two')",
    )


class Running(ConformanceBase):
    """Running executions: listed, signalled, joined, written to."""

    # -- D18 -------------------------------------------------------------------

    def test_D18_running_executions_are_listed_with_their_ids(self) -> None:
        with self.session() as session:
            running = [self.runs(session), self.runs(session)]
            ids = [one.execution_id for one in running]
            seen = [one.execution_id for one in session.executions()]
            expect(seen == ids, "D18", f"the executions {ids}", seen)
            for one in running:
                found = session.execution(one.execution_id)
                expect(found is one, "D18", "the one of that id", found)
            running[0].cancel()
            running[0].result(self.scaled(10))
            seen = [one.execution_id for one in session.executions()]
            expect(seen == ids[1:], "D18", "only those that run", seen)
            with pytest.raises(ExecutionNotFoundError):
                session.execution(ids[0])
            running[1].cancel()
            running[1].result(self.scaled(10))

    def test_D18_a_signal_reaches_the_program(self) -> None:
        self.need(Feature.SIGNALS, Feature.SHELL)
        with self.session() as session:
            execution = session.start(shell=_HEARS, timeout=self.scaled(60))
            said = execution.follow()
            self._says(said, b"\nready\n", b"child ready\n", before=b"\n")
            execution.signal("SIGUSR1")
            seen = self._says(said, b"heard one\n")
            execution.signal(12, group=True)
            seen += self._says(said, b"\nheard two\n", b"child heard two\n", before=b"\n")
            alone = b"child heard one" not in seen
            expect(alone, "D18", "a signal to the program alone, then one to its group", seen)
            execution.signal("TERM")
            result = execution.result(self.scaled(10))
            end = (result.verdict, result.signal, result.exit_code)
            right = (Verdict.SIGNALLED, 15, 143)
            expect(end == right, "D18", f"the end of that signal: {right}", result)
            self.usable(session, "D18")

    def _says(self, said: OutputReader, *words: bytes, before: bytes = b"") -> bytes:
        """All of these are printed next, in any order."""
        seen, until = before, time.monotonic() + self.scaled(10)
        while not all(word in seen for word in words):
            chunk = said.take(max(0.0, until - time.monotonic()))
            expect(chunk is not None, "D18", f"{words} in the output", seen)
            seen += chunk.data if chunk else b""
        return seen

    def test_D18_a_program_that_is_gone_gets_no_signal(self) -> None:
        self.need(Feature.SIGNALS)
        with self.shared() as session:
            execution = self.start(session, say("x"))
            execution.result()
            with pytest.raises(ExecutionEndedError):
                execution.signal(15)

    def test_D18_signals_are_refused_where_there_are_none(self) -> None:
        if self.claims(Feature.SIGNALS):
            pytest.skip("the wall has signals")
        with self.session() as session:
            execution = self.start(session, sleep(20), timeout=self.scaled(30))
            self.refused("D18", lambda: execution.signal(15), Feature.SIGNALS)
            execution.cancel()

    def test_D18_output_is_joined_late_and_several_times(self) -> None:
        program = _twice(self.scaled(1.0))
        with self.shared() as session:
            execution = self.start(session, program, timeout=self.scaled(40))
            with execution.follow() as first:
                chunk = first.take(self.scaled(20))
                expect(chunk is not None, "D18", "the first line, live", chunk)
            late = session.execution(execution.execution_id)
            readers = {
                "from the beginning": (late.follow(), _WORDS),
                "from an offset": (late.follow(2), _WORDS[2:]),
                "from now on": (late.follow(None), _WORDS[4:]),
                "another from the beginning": (late.follow(0), _WORDS),
            }
            for who, (reader, right) in readers.items():
                seen = b"".join(chunk.data for chunk in reader)
                expect(seen == right, "D18", f"{right!r} {who}", seen)
            result = execution.result()
            expect(result.stdout_bytes == _WORDS, "D18", "a whole result beside them", result)

    def test_D18_what_a_reader_missed_is_marked(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            line = "head -c 300000 /dev/zero; printf end"
            execution = session.start(shell=line, output_limit_bytes=50_000)
            execution.result()
            at, count = 0, 0
            last = b""
            for chunk in execution.follow():
                right = at + chunk.dropped
                expect(chunk.offset == right, "D18", f"a piece at {right}", chunk.offset)
                at, count, last = chunk.end, count + chunk.dropped, chunk.data or last
            expect(at == 300_003, "D18", "300003 bytes, those that are missing counted", at)
            expect(count > 0, "D18", "a mark where some are missing", count)
            expect(last.endswith(b"end"), "D18", "the last bytes", last[-20:])

    def test_D18_a_reader_that_joined_holds_nobody_up(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            line = "echo begun; head -c 3000000 /dev/zero"
            execution = session.start(shell=line, output_limit_bytes=65536)
            idle = execution.follow()
            idle.take(self.scaled(10))
            at = idle.position
            result = execution.result(self.scaled(20))
            expect(result.success, "D18", "a program that a slow reader lets go on", result)
            rest = sum(chunk.dropped + len(chunk.data) for chunk in idle)
            right = result.stdout_total_bytes - at
            expect(rest == right, "D18", f"{right} bytes more, read or counted", rest)

    # -- D17 -------------------------------------------------------------------

    def _cat(self, execution: Execution) -> None:
        said = execution.follow()
        execution.write(b"\0\xffone\n")
        seen = b""
        while len(seen) < 6:
            chunk = said.take(self.scaled(10))
            expect(chunk is not None, "D17", "what was written, at once", seen)
            seen += chunk.data if chunk else b""
        execution.write("zwölf")
        execution.close_stdin()
        execution.close_stdin()
        result = execution.result(self.scaled(10))
        right = b"\0\xffone\n" + "zwölf".encode()
        seen = result.stdout_bytes
        expect(result.success and seen == right, "D17", f"{right!r}, then its end", result)
        with pytest.raises(InputClosedError):
            execution.write(b"late")

    def test_D17_input_is_written_and_closed_later(self) -> None:
        self.need(Feature.LIVE_INPUT, Feature.SHELL)
        with self.shared() as session:
            for options in ({"shell": "cat"}, {"argv": ["cat"]}):
                self._cat(session.start(**options, stdin=PIPE, timeout=self.scaled(40)))
            with pytest.raises(InputClosedError):
                session.start(shell="cat").write(b"x")

    def test_D17_code_reads_what_is_written_later(self) -> None:
        self.need(Feature.LIVE_INPUT, Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
            code = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"
            for _ in range(2):  # a cold interpreter, and one that waited
                execution = session.start(code=code, stdin=PIPE, timeout=self.scaled(40))
                execution.write("stressed\n")
                chunk = execution.follow().take(self.scaled(20))
                said = chunk and chunk.data
                expect(said == b"desserts\n", "D17", "an answer", said)
                execution.close_stdin()
                result = execution.result(self.scaled(20))
                expect(result.success, "D17", "an end with its input's", result)

    def test_D17_every_byte_arrives_from_any_thread(self) -> None:
        self.need(Feature.LIVE_INPUT, Feature.SHELL)
        size, letters = 1_500_000, (b"a", b"b", b"c")
        with self.shared() as session:
            execution = session.start(
                shell="cat", stdin=PIPE, timeout=self.scaled(50), output_limit_bytes=1 << 24
            )
            writers = [
                threading.Thread(target=execution.write, args=(letter * size,), daemon=True)
                for letter in letters
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join(self.scaled(30))
            execution.close_stdin()
            seen = execution.result(self.scaled(30)).stdout_bytes
            expect(len(seen) == 3 * size, "D17", f"{3 * size} bytes", len(seen))
            apart = [letter for letter in letters if letter * size not in seen]
            expect(not apart, "D17", "each thread's bytes together", apart)

    def test_D17_who_does_not_read_holds_the_writer_back(self) -> None:
        self.need(Feature.LIVE_INPUT)
        with self.shared() as session:
            execution = self.start(session, sleep(60), stdin=PIPE, timeout=self.scaled(90))
            ends: list[object] = []

            def write() -> None:
                try:
                    execution.write(bytes(32 << 20))
                    ends.append("all of it was taken")
                except Exception as error:
                    ends.append(error)

            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            writer.join(self.scaled(1.0))
            expect(not ends, "D17", "a writer that waits", ends)
            execution.cancel()
            writer.join(self.scaled(10))
            ended = [isinstance(end, ExecutionEndedError) for end in ends]
            expect(ended == [True], "D17", "an error that says that it has ended", ends)

    def test_D17_a_program_that_has_ended_takes_nothing(self) -> None:
        self.need(Feature.LIVE_INPUT)
        with self.shared() as session:
            execution = self.start(session, say("x"), stdin=PIPE)
            result = execution.result(self.scaled(20))
            expect(result.success, "D17", "a program that needs no input", result)
            with pytest.raises(ExecutionEndedError):
                execution.write(b"late")
            execution.close_stdin()

    def test_D17_a_cancelled_write_ends_at_once(self) -> None:
        self.need(Feature.LIVE_INPUT)

        async def write(session: AsyncSession) -> None:
            execution = await session.start(**self._form(session.sync, sleep(60)), stdin=PIPE)
            with pytest.raises((asyncio.TimeoutError, TimeoutError)):
                await asyncio.wait_for(execution.write(bytes(32 << 20)), self.scaled(0.5))
            execution.cancel()
            await execution.result()

        with self.shared() as session:
            began = time.monotonic()
            asyncio.run(write(AsyncSession(session)))
            self.within("D17", 20, began, "the end of a cancelled write")

    def test_D17_open_input_is_refused_where_there_is_none(self) -> None:
        if self.claims(Feature.LIVE_INPUT):
            pytest.skip("the wall has open input")
        with self.shared() as session:

            def start() -> object:
                return self.start(session, say("x"), stdin=PIPE)

            self.refused("D17", start, Feature.LIVE_INPUT)
