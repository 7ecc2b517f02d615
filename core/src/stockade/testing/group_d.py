"""Checks of D: execution."""

from __future__ import annotations

import asyncio
import time

import pytest

from stockade.aio import AsyncSession
from stockade.capabilities import Feature
from stockade.errors import LanguageError, SandboxLostError
from stockade.results import SandboxResult, SessionStatus, Stream, Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect

#: Ends by itself, since a wall under test may fail to end it.
_HEARTBEAT = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo x >> {path}; sleep 0.1; done"


class Execution(ConformanceBase):
    """Forms, codes, verdicts, deadlines, trees."""

    def test_D1_an_argument_vector_meets_no_shell(self) -> None:
        self.need(Feature.ARGV)
        with self.session() as session:
            argument = "$(echo no) `no` 'q' \"q\" * ;\n\t\\"
            result = session.run(["printf", "%s", argument])
            expect(result.stdout == argument, "D1", repr(argument), result.stdout)

    def test_D1_a_shell_line_meets_one(self) -> None:
        self.need(Feature.SHELL)
        with self.session() as session:
            result = session.shell("a=6; echo $((a*7)) | cat")
            expect(result.stdout == "42\n", "D1", "42", result)

    def test_D1_an_unknown_language_lists_those_there_are(self) -> None:
        self.need(Feature.CODE)
        with self.session() as session, pytest.raises(LanguageError, match="it has: "):
            session.code("x", language="cobol-85")

    def test_D2_exit_codes_are_exact(self) -> None:
        with self.session() as session:
            for code in (0, 1, 2, 42, 100, 124, 125, 126, 127, 128, 137, 143, 250, 251, 255):
                result = session.run(["sh", "-c", f"exit {code}"])
                got = (result.exit_code, result.verdict)
                expect(got == (code, Verdict.EXITED), "D2", f"exited {code}", got)

    def test_D2_missing_is_127_and_not_executable_126(self) -> None:
        with self.session() as session:
            for missing in ("no-such-program-x", "/no/such/program"):
                result = session.run([missing])
                expect(result.exit_code == 127, "D2", f"127 for {missing}", result)
            session.shell("echo x > notes; chmod 644 notes")
            result = session.run([f"{session.provider.config.working_dir}/notes"])
            expect(result.exit_code == 126, "D2", "126 for a file that is no program", result)

    def test_D2_signals_are_named(self) -> None:
        with self.session() as session:
            for name, number in (("KILL", 9), ("TERM", 15), ("SEGV", 11)):
                result = session.run(["sh", "-c", f"kill -{name} $$"])
                got = (result.verdict, result.exit_code, result.signal_name)
                right = (Verdict.SIGNALLED, 128 + number, f"SIG{name}")
                expect(got == right, "D2", repr(right), got)

    def test_D3_all_verdicts_in_one_session_at_the_same_time(self) -> None:
        self.need(Feature.MEMORY)
        with self.session(memory_mb=128) as session:
            hog = "a=0123456789abcdef; while :; do a=$a$a; done"
            started = {
                "timed out": session.start(["sleep", "30"], timeout=1.0),
                "exited 137": session.start(["sh", "-c", "sleep 0.3; exit 137"]),
                "exited 143": session.start(["sh", "-c", "sleep 0.3; exit 143"]),
                "signalled 137": session.start(["sh", "-c", "sleep 0.3; kill -9 $$"]),
            }
            if not self.one_kernel(session):
                # Where one kernel holds all, its end for memory is everybody's: E5 alone checks it.
                started["out of memory"] = session.start(["sh", "-c", hog], timeout=30)
            for right, execution in started.items():
                result = execution.result(50)
                word = str(result.verdict)
                seen = (
                    word if word in ("timed out", "out of memory") else f"{word} {result.exit_code}"
                )
                expect(seen == right, "D3", right, result)

    def test_D6_a_timeout_ends_the_whole_tree(self) -> None:
        beat = _HEARTBEAT.format(path="beat")
        line = (
            f"trap '' TERM INT HUP; ({beat}) & setsid sh -c '{beat}' & "
            f"(setsid sh -c '({beat}) & {beat}' &); echo so far; {beat}"
        )
        with self.session() as session:
            began = time.monotonic()
            result = session.shell(line, timeout=1.0)
            self.within("D6", 2.0, began, "the end")
            expect(result.verdict is Verdict.TIMED_OUT, "D6", "timed out", result.verdict)
            expect(result.stdout == "so far\n", "D6", "the output so far", result.stdout)
            expect(self.stops_growing(session, "beat"), "D6", "no process left", "a heartbeat")
            expect(session.status is SessionStatus.READY, "D6", "ready", session.status)

    def test_D6_a_timeout_leaves_other_executions_alone(self) -> None:
        with self.session() as session:
            other = session.start(["sh", "-c", "sleep 2; echo alive"])
            session.run(["sleep", "30"], timeout=0.5)
            result = other.result(20)
            expect(result.stdout == "alive\n", "D6", "alive", result)

    def test_D6_a_bomb_of_forks_ends(self) -> None:
        self.need(Feature.PROCESSES)
        with self.session(max_processes=64) as session:
            line = "f() { setsid sleep 20 & f & f & }; f; sleep 20"
            began = time.monotonic()
            session.shell(line, timeout=1.0)
            self.within("D6", 4.0, began, "the end of a bomb")
            deadline = time.monotonic() + 10
            while not session.run(["true"]).success and time.monotonic() < deadline:
                time.sleep(0.2)
            expect(session.run(["true"]).success, "D6", "a usable session", "failure")

    def test_D7_a_child_left_behind_holds_nothing_up(self) -> None:
        self._left_behind(bool(self.make_provider().wall.capabilities[Feature.BACKGROUND]))

    def _left_behind(self, lives: bool) -> None:
        beat = _HEARTBEAT.format(path="beat")
        with self.session() as session:
            began = time.monotonic()
            result = session.shell(f"({beat}) & echo done; sleep 0.3", timeout=10)
            self.within("D7", 5.0, began, "the return")
            expect(result.stdout == "done\n", "D7", "done", result)
            ended = self.stops_growing(session, "beat")
            expect(ended is not lives, "D7", "background as claimed", f"ended: {ended}")

    def test_D9_working_folder_and_environment(self) -> None:
        with self.session(env_vars={"A": "1"}) as session:
            value = "v 'q' \"q\" $x\n=\\"
            result = session.shell('printf "%s|%s|%s" "$A" "$B" "$PWD"',
                                   env={"B": value}, working_dir="/tmp")  # fmt: skip
            expect(result.stdout == f"1|{value}|/tmp", "D9", "as given", result.stdout)
            with pytest.raises(FileNotFoundError, match="/no/such/folder"):
                session.run(["true"], working_dir="/no/such/folder")
            expect(session.run(["true"]).success, "D9", "a usable session", "failure")

    def test_D10_a_script_of_a_mebibyte(self) -> None:
        with self.session() as session:
            line = ": " + "x" * (1 << 20) + "\necho end"
            expect(session.shell(line).stdout == "end\n", "D10", "end", "another")

    def test_D11_executions_at_the_same_time(self) -> None:
        with self.session() as session:
            lines = {n: f"for i in 1 2 3; do echo {n}; echo e{n} >&2; sleep 0.1; done"
                     for n in range(10)}  # fmt: skip
            started = {n: session.start(shell=line) for n, line in lines.items()}
            for number, execution in started.items():
                result = execution.result(40)
                right = (f"{number}\n" * 3, f"e{number}\n" * 3)
                expect((result.stdout, result.stderr) == right, "D11", repr(right), result)

    def test_D12_cancel_from_another_thread(self) -> None:
        with self.session() as session:
            beat = _HEARTBEAT.format(path="beat")
            execution = session.start(shell=f"setsid sh -c '{beat}' & {beat}")
            time.sleep(0.5)
            began = time.monotonic()
            execution.cancel()
            result = execution.result(20)
            self.within("D12", 1.5, began, "the end")
            expect(result.verdict is Verdict.CANCELLED, "D12", "cancelled", result)
            expect(self.stops_growing(session, "beat"), "D12", "no process left", "a heartbeat")

    def test_D12_cancelling_the_await(self) -> None:
        async def main(session: Session) -> float:
            task = asyncio.create_task(AsyncSession(session).run(["sleep", "30"]))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return began

        with self.session() as session:
            began = asyncio.run(main(session))
            self.within("D12", 2.0, began, "the end")
            expect(session.status is SessionStatus.READY, "D12", "ready", session.status)

    def test_D14_a_sandbox_that_dies(self) -> None:
        with self.session() as session:
            execution = session.start(shell="echo so far; sleep 30")
            time.sleep(1.0)
            began = time.monotonic()
            self.kill_sandbox(session)
            with pytest.raises(SandboxLostError) as caught:
                execution.result(20)
            self.within("D14", 5.0, began, "the error")
            partial = caught.value.partial
            expect(partial is not None and partial.stdout == "so far\n", "D14", "so far", partial)


class Output(ConformanceBase):
    """Bytes, bounds, streaming, input."""

    def test_D4_streams_are_apart_and_byte_exact(self) -> None:
        data = bytes(range(256)) * 300
        with self.session() as session:
            result = session.run(["sh", "-c", "cat; printf 'e\\0\\377' >&2"], stdin=data)
            expect(result.stdout_bytes == data, "D4", "all byte values", result.stdout_bytes[:80])
            expect(result.stderr_bytes == b"e\0\xff", "D4", "stderr apart", result.stderr_bytes)

    def test_D5_counts_and_marks(self) -> None:
        with self.session() as session:
            result = session.shell("head -c 300000 /dev/zero; head -c 5 /dev/zero >&2",
                                   output_limit_bytes=100_000)  # fmt: skip
            seen = (len(result.stdout_bytes), result.stdout_total_bytes, result.stdout_truncated,
                    result.stderr_total_bytes, result.stderr_truncated, result.exit_code)  # fmt: skip
            right = (100_000, 300_000, True, 5, False, 0)
            expect(seen == right, "D5", repr(right), seen)

    def test_D5_an_endless_print_is_bounded(self) -> None:
        resource = pytest.importorskip("resource")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with self.session() as session:
            result = session.run(["yes"], timeout=2.0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        expect(result.verdict is Verdict.TIMED_OUT, "D5", "timed out", result.verdict)
        expect(result.stdout_truncated and len(result.stdout_bytes) == 1 << 20, "D5", "1 MiB", "")
        expect(grown < 64 * 1024, "D5", "host memory that does not grow", f"{grown} KiB")

    def test_D5_the_policy_end(self) -> None:
        with self.session() as session:
            result = session.run(["yes"], output_policy="end", output_limit_bytes=10_000)
            expect(result.verdict is Verdict.OUTPUT_LIMIT, "D5", "output limit", result.verdict)

    def test_D8_input_of_fifty_mebibytes(self) -> None:
        data = b"\0\xff\n" * (50 * 1024 * 1024 // 3)
        with self.session() as session:
            result = session.run(["wc", "-c"], stdin=data)
            expect(
                result.stdout.split() == [str(len(data))],
                "D8",
                f"{len(data)} bytes",
                result.stdout,
            )

    def test_D8_without_input_it_is_empty(self) -> None:
        with self.session() as session:
            result = session.run(["cat"], timeout=10)
            expect(result.success and not result.stdout, "D8", "an end at once", result)

    def test_D8_a_program_that_reads_nothing(self) -> None:
        with self.session() as session:
            result = session.run(["true"], stdin=bytes(5 << 20))
            expect(result.success, "D8", "success", result)

    def test_D13_pieces_come_as_they_are_printed(self) -> None:
        with self.session() as session:
            line = "for i in 1 2 3; do echo $i; sleep 0.7; done; echo e >&2"
            seen: list[tuple[float, Stream, bytes]] = []
            with session.stream(shell=line) as execution:
                for chunk in execution:
                    seen.append((time.monotonic(), chunk.stream, chunk.data))
                result: SandboxResult = execution.result()
            out = [data for _, stream, data in seen if stream is Stream.STDOUT]
            expect(out == [b"1\n", b"2\n", b"3\n"], "D13", "three pieces", out)
            expect(seen[-1][1] is Stream.STDERR, "D13", "tagged by stream", seen[-1])
            gap = seen[1][0] - seen[0][0]
            expect(0.3 < gap < 0.7 + 0.5 * self.time_factor, "D13", "0.7 s apart", gap)
            expect(result.success, "D13", "then the result", result)

    def test_D13_a_slow_reader_bounds_memory(self) -> None:
        with self.session(output_limit_bytes=65536) as session:
            total = 0
            with session.stream(["head", "-c", "3000000", "/dev/zero"]) as execution:
                for chunk in execution:
                    total += len(chunk.data)
                    time.sleep(0.001)
            expect(total == 3_000_000, "D13", "every byte", total)
