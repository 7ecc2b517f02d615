"""Checks of D, second part: bytes, bounds, input, live output (D4, D5, D8, D13)."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator

import pytest

from stockade.capabilities import Feature
from stockade.results import SandboxResult, Stream, Verdict
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import Program, chatter, say


def _pieces(gap: float) -> Program:
    """Print three lines, so many seconds apart, then something on the other stream."""
    return Program(
        name="pieces",
        sh=f"for i in 1 2 3; do echo $i; sleep {gap:g}; done; echo e >&2",
        python="import sys, time\nfor i in (1, 2, 3):\n    print(i, flush=True)\n"
        f"    time.sleep({gap:g})\nprint('e', file=sys.stderr)",
    )


class Output(ConformanceBase):
    """Bytes, bounds, streaming, input."""

    def test_D4_streams_are_apart(self) -> None:
        with self.shared() as session:
            result = self.run(session, say("out", "err"))
            seen = (result.stdout, result.stderr)
            expect(seen == ("out", "err"), "D4", "out and err, apart", seen)

    def test_D4_streams_are_byte_exact(self) -> None:
        self.need(Feature.SHELL)
        data = bytes(range(256)) * 300
        with self.shared() as session:
            result = session.shell("cat; printf 'e\\0\\377' >&2", stdin=data)
            expect(result.stdout_bytes == data, "D4", "all byte values", result.stdout_bytes[:80])
            expect(result.stderr_bytes == b"e\0\xff", "D4", "stderr apart", result.stderr_bytes)
            expect(result.stderr == "e\0\ufffd", "D4", "text with replacement", result.stderr)

    def test_D5_counts_and_marks(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            result = session.shell(
                "head -c 300000 /dev/zero; head -c 5 /dev/zero >&2", output_limit_bytes=100_000
            )
            seen = (
                len(result.stdout_bytes),
                result.stdout_total_bytes,
                result.stdout_truncated,
                result.stderr_total_bytes,
                result.stderr_truncated,
                result.exit_code,
            )
            right = (100_000, 300_000, True, 5, False, 0)
            expect(seen == right, "D5", repr(right), seen)

    def test_D5_an_endless_print_is_bounded(self) -> None:
        resource = pytest.importorskip("resource")
        with self.shared() as session:
            self.run(session, say("x"))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            result = self.run(session, chatter(), timeout=self.scaled(2.0))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        expect(result.verdict is Verdict.TIMED_OUT, "D5", "timed out", result.verdict)
        kept = len(result.stdout_bytes)
        limit = session.provider.config.output_limit_bytes
        expect(kept <= limit, "D5", f"at most {limit} bytes kept", kept)
        cut = result.stdout_total_bytes > kept
        expect(
            cut == result.stdout_truncated, "D5", "a mark that is right", result.stdout_total_bytes
        )
        expect(grown < 64 * 1024, "D5", "host memory that does not grow", f"{grown} KiB")

    def test_D5_the_policy_end(self) -> None:
        with self.shared() as session:
            result = self.run(
                session,
                chatter(),
                output_policy="end",
                output_limit_bytes=10_000,
                timeout=self.scaled(30),
            )
            expect(result.verdict is Verdict.OUTPUT_LIMIT, "D5", "output limit", result.verdict)
            kept = len(result.stdout_bytes)
            expect(kept == 10_000, "D5", "10000 bytes kept", kept)

    def test_D5_the_tail_or_both_ends_by_choice(self) -> None:
        self.need(Feature.SHELL)
        line = "printf begin; head -c 200000 /dev/zero; printf end"
        with self.shared() as session:
            for keep, begins, gap in (
                ("head", True, 1000),
                ("tail", False, 0),
                ("both", True, 500),
            ):
                result = session.shell(line, output_limit_bytes=1000, output_keep=keep)
                kept = result.stdout_bytes
                ends = (kept.startswith(b"begin"), kept.endswith(b"end"))
                right = (begins, keep != "head")
                expect(ends == right, "D5", f"{keep}: begin and end kept: {right}", kept[-20:])
                seen = (len(kept), result.stdout_gap, result.stdout_dropped_bytes)
                reported = (1000, gap, 199_008)
                expect(seen == reported, "D5", f"{keep}: kept, gap, dropped: {reported}", seen)
            whole = session.shell("printf all", output_keep="tail")
            seen_whole = (whole.stdout, whole.stdout_gap)
            expect(seen_whole == ("all", None), "D5", "all, and no gap", seen_whole)

    def test_D5_both_streams_merged_in_the_order_of_writing(self) -> None:
        self.need(Feature.MERGED_OUTPUT, Feature.SHELL)
        line = "for i in 1 2 3 4 5 6 7 8 9; do echo out$i; echo err$i >&2; done"
        right = "".join(f"out{i}\nerr{i}\n" for i in range(1, 10))
        with self.shared() as session:
            result = session.shell(line, merge=True)
            seen = (result.stdout, result.stderr)
            expect(seen == (right, ""), "D5", "both in order, on standard output", seen)

    def test_D5_merging_is_refused_where_it_cannot_be(self) -> None:
        if self.claims(Feature.MERGED_OUTPUT):
            pytest.skip("the wall merges")
        with self.shared() as session:
            call = lambda: self.run(session, say("x"), merge=True)  # noqa: E731
            self.refused("D5", call, Feature.MERGED_OUTPUT)

    def test_D8_text_is_input_as_utf8(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            seen = session.shell("cat", stdin="gr\u00fcn").stdout_bytes
            expect(seen == b"gr\xc3\xbcn", "D8", "the text as UTF-8", seen)

    def test_D8_input_of_fifty_mebibytes(self) -> None:
        self.need(Feature.SHELL)
        data = b"\0\xff\n" * (50 * 1024 * 1024 // 3)
        with self.shared() as session:
            seen = session.shell("wc -c", stdin=data).stdout.split()
            expect(seen == [str(len(data))], "D8", f"{len(data)} bytes", seen)

    def test_D8_without_input_it_is_empty_and_never_the_hosts(self) -> None:
        self.need(Feature.SHELL)
        with _host_input(b"of the host\n"), self.shared() as session:
            result = session.shell("cat", timeout=self.scaled(10))
            expect(result.success and not result.stdout, "D8", "an end at once", result)

    def test_D8_a_program_that_reads_nothing(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            result = session.shell("true", stdin=bytes(5 << 20))
            expect(result.success, "D8", "success", result)

    def test_D13_pieces_come_as_they_are_printed(self) -> None:
        gap = self.scaled(0.7)
        with self.shared() as session:
            seen: list[tuple[float, Stream, bytes]] = []
            with self.stream(session, _pieces(gap), timeout=self.scaled(40)) as execution:
                for chunk in execution:
                    seen.append((time.monotonic(), chunk.stream, chunk.data))
                result: SandboxResult = execution.result(self.scaled(20))
            out = [data for _, stream, data in seen if stream is Stream.STDOUT]
            expect(out == [b"1\n", b"2\n", b"3\n"], "D13", "three pieces", out)
            expect(seen[-1][1] is Stream.STDERR, "D13", "tagged by stream", seen[-1])
            between = seen[1][0] - seen[0][0]
            late = gap + self.scaled(1.5)
            expect(0.4 * gap < between < late, "D13", f"{gap:g} s apart", between)
            expect(result.success, "D13", "then the result", result)

    def test_D13_a_slow_reader_bounds_memory(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            total = 0
            with session.stream(
                shell="head -c 3000000 /dev/zero", output_limit_bytes=65536
            ) as execution:
                for chunk in execution:
                    total += len(chunk.data)
                    time.sleep(0.001)
                result = execution.result(self.scaled(20))
            expect(total == 3_000_000, "D13", "every byte", total)
            kept = len(result.stdout_bytes)
            expect(kept == 65536, "D13", "a result that keeps the limit", kept)


@contextlib.contextmanager
def _host_input(data: bytes) -> Iterator[None]:
    """This process's own standard input is a pipe that holds ``data``, meanwhile."""
    try:
        taken = stat.S_ISSOCK(os.fstat(0).st_mode)
    except OSError:
        taken = True
    if taken:  # with standard input closed, its number may be anybody's
        pytest.skip("this process has no standard input")
    reader, writer = os.pipe()
    saved = os.dup(0)
    os.write(writer, data)
    os.close(writer)
    os.dup2(reader, 0)
    os.close(reader)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)
