"""Mutants of D: executions that end, print or read otherwise than they should."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import threading
from typing import Any

import attrs

from conformance.mutants.base import Changed, ChangedOutput, Mutant, PlainSandbox, suite
from conformance.mutants.printing import CountsOnlyWhatIsKept, HoldsAllInMemory, HoldsOutputBack
from conformance.mutants.selected import StartsElsewhere
from conformance.mutants.selecting import _core
from conformance.mutants.sessions import OneAtATime
from stockade.errors import SandboxLostError
from stockade.results import Stream
from stockade.toolkit.processes.pump import LocalRunning
from stockade.wall import ExecRequest, Exit, Form, Output, Running


class JoinsArguments(PlainSandbox):
    """An argument vector becomes a line for the shell."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.form is Form.ARGV:
            request = attrs.evolve(request, form=Form.SHELL, script=" ".join(request.argv))
        return super().start(request, output)


class SplitsLines(PlainSandbox):
    """A shell line becomes an argument vector."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.form is Form.SHELL:
            request = attrs.evolve(request, form=Form.ARGV, argv=tuple(request.script.split()))
        return super().start(request, output)


class CodeIsAFile(PlainSandbox):
    """Code gets an argument that is not there."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        if "start_from_input()" in " ".join(request.argv):
            head, tail = request.argv[:-1], request.argv[-1]
            request = attrs.evolve(request, argv=(*head, "code.py", tail))
        return super().spawn(request)


def _ends(changed: Any) -> type[PlainSandbox]:
    """A sandbox whose executions end as ``changed`` says."""

    class Sandbox(PlainSandbox):
        def start(self, request: ExecRequest, output: Output) -> Running:
            class Other(Changed):
                def wait(self) -> Exit:
                    ended: Exit = changed(self.inner.wait())
                    return ended

            return Other(super().start(request, output))

    return Sandbox


def _code_is_signal(ended: Exit) -> Exit:
    code = ended.code or 0
    return Exit(signal=code - 128) if code > 128 else ended


def _one_code(ended: Exit) -> Exit:
    return Exit(code=min(ended.code or 0, 1)) if ended.signal is None else ended


def _signal_is_code(ended: Exit) -> Exit:
    return Exit(code=128 + ended.signal) if ended.signal else ended


def _137_is_memory(ended: Exit) -> Exit:
    return attrs.evolve(ended, out_of_memory=ended.code == 137 or ended.signal == 9)


class EverythingIs127(PlainSandbox):
    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        line = '"$@" || exit 127'
        return super().spawn(attrs.evolve(request, argv=("sh", "-c", line, "sh", *request.argv)))


class MergesStreams(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Merged(ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(Stream.STDOUT, data)

        return super().start(request, Merged(output))


class DropsTheEnd(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Cut(ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(stream, data[:-100] if len(data) > 100 else data)

        return super().start(request, Cut(output))


class KillsNothing(PlainSandbox):
    """The client stops waiting, the program runs on."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        inner = super().start(request, output)
        ended = threading.Event()

        class Deaf(Changed):
            def kill(self) -> None:
                ended.set()

            def wait(self) -> Exit:
                thread = threading.Thread(target=self._quietly, daemon=True)
                thread.start()
                while thread.is_alive() and not ended.wait(0.01):
                    pass
                return Exit(code=0)

            def _quietly(self) -> None:
                try:
                    self.inner.wait()
                except SandboxLostError:
                    return

        return Deaf(inner)


class KillsTheGroupAlone(PlainSandbox):
    """What left the process group with setsid lives on."""

    def serve(
        self, process: subprocess.Popen[bytes], request: ExecRequest, output: Output
    ) -> Running:
        return LocalRunning(process, request.stdin, output)


class KillsAll(PlainSandbox):
    """A timeout of one execution ends those beside it."""

    def mark(self, request: ExecRequest) -> str:
        return super().mark(request).rpartition("/")[0]


class EndsLate(PlainSandbox):
    """Asks kindly, and waits long, before it kills."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Kind(Changed):
            def kill(self) -> None:
                threading.Timer(3.0, self.inner.kill).start()

        return Kind(super().start(request, output))


class WaitsForChildren(PlainSandbox):
    def serve(
        self, process: subprocess.Popen[bytes], request: ExecRequest, output: Output
    ) -> Running:
        class Waiting(Running):
            def wait(self) -> Exit:
                out, err = process.communicate(request.stdin)
                output.write(Stream.STDOUT, out)
                output.write(Stream.STDERR, err)
                code = process.returncode
                return Exit(code=code) if code >= 0 else Exit(signal=-code)

            def kill(self) -> None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)

        return Waiting()


class LosesInput(PlainSandbox):
    def serve(
        self, process: subprocess.Popen[bytes], request: ExecRequest, output: Output
    ) -> Running:
        return super().serve(process, attrs.evolve(request, stdin=request.stdin[: 1 << 16]), output)


class InheritsInput(PlainSandbox):
    """Where no input is given, the program has the host's."""

    def serve(
        self, process: subprocess.Popen[bytes], request: ExecRequest, output: Output
    ) -> Running:
        given = attrs.evolve(request, stdin=request.stdin + os.read(0, 65536))
        return super().serve(process, given, output)


class LosesTheEnvironment(PlainSandbox):
    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        return super().spawn(attrs.evolve(request, env={}))


class ScriptsAreArguments(PlainSandbox):
    """A script travels as an argument: none longer than the kernel allows."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.form is Form.SHELL:
            argv = ("sh", "-c", request.script)
            request = attrs.evolve(request, form=Form.ARGV, argv=argv)
        elif request.form is Form.CODE:
            argv = ("python3", "-c", request.script)
            request = attrs.evolve(request, form=Form.ARGV, argv=argv)
        return super().start(request, output)


class MixesOutput(PlainSandbox):
    """Whoever prints, the first execution gets it."""

    first: Output | None = None

    def start(self, request: ExecRequest, output: Output) -> Running:
        self.first = self.first or output
        return super().start(request, self.first)


class KeepsADeadlineOfItsOwn(PlainSandbox):
    """A wall that knows no execution without a deadline."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        running = super().start(request, output)
        timer = threading.Timer(request.timeout_seconds or 1.0, running.kill)
        timer.daemon = True
        timer.start()
        return running


class StartsAtTheTop(PlainSandbox):
    """Every folder is the session's own."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        return super().spawn(attrs.evolve(request, working_dir="/workspace"))


class DiesQuietly(PlainSandbox):
    """A sandbox that died looks like a program that was killed."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Quiet(Changed):
            def wait(self) -> Exit:
                try:
                    return self.inner.wait()
                except SandboxLostError:
                    return Exit(signal=9)

        return Quiet(super().start(request, output))


async def _waits_for_a_piece(_: Any, waiting: asyncio.Future[Any]) -> None:
    """A cancelled await ends nothing, and goes on with what it waited for."""
    await asyncio.wait([waiting])


def _with_a_deadline(**fields: Any) -> ExecRequest:
    """None is taken for "not given"."""
    if fields["timeout_seconds"] is None:
        fields["timeout_seconds"] = 1.0
    return ExecRequest(**fields)


def _on(check: str, sandbox: type[PlainSandbox], name: str = "", **more: Any) -> Mutant:
    says = more.pop("says", "")
    return Mutant(
        name=name or sandbox.__name__,
        check=check,
        make=functools.partial(suite, sandbox, **more),
        says=says,
    )


EXECUTING = [
    _on("D1_an_argument_vector_meets_no_shell", JoinsArguments),
    _on("D1_a_shell_line_meets_one", SplitsLines),
    _on("D1_the_traits_call_is_the_shell_form", SplitsLines),
    _on("D1_code_in_a_named_language", CodeIsAFile),
    _core(
        "D1_a_form_that_is_not_claimed_is_refused",
        "refuses-no-form",
        "stockade.executions._forms.check_form",
        lambda *_: None,
        code="unsupported",
    ),
    _on("D2_exit_codes_are_exact", _ends(_code_is_signal), "codes-are-signals"),
    _on("D2_exit_codes_are_exact", _ends(_one_code), "one-code-for-all"),
    _on("D2_signals_are_named", _ends(_signal_is_code), "signals-are-codes"),
    _on("D2_missing_is_127_and_not_executable_126", EverythingIs127),
    _on("D3_verdicts_at_the_same_time", _ends(_137_is_memory), "calls-137-out-of-memory"),
    _on("D4_streams_are_apart", MergesStreams),
    _on("D4_streams_are_byte_exact", DropsTheEnd),
    _on("D5_counts_and_marks", CountsOnlyWhatIsKept),
    _on("D5_an_endless_print_is_bounded", HoldsAllInMemory),
    _core(
        "D5_the_policy_end",
        "never-ends-for-output",
        "stockade.executions._output.BoundedOutput._report_excess",
        lambda _: None,
        factor=0.05,
    ),
    _on("D6_a_timeout_ends_the_whole_tree", KillsNothing),
    _on("D6_a_timeout_ends_the_whole_tree", KillsTheGroupAlone),
    _on("D6_a_timeout_comes_in_time", EndsLate),
    _on("D6_a_timeout_leaves_other_executions_alone", KillsAll),
    _on("D7_a_child_left_behind_holds_nothing_up", WaitsForChildren, factor=0.3),
    _on(
        "D7_a_child_left_behind_holds_nothing_up",
        PlainSandbox,
        "claims-background",
        background="native",
    ),
    _on("D8_input_of_fifty_mebibytes", LosesInput),
    _on("D8_without_input_it_is_empty_and_never_the_hosts", InheritsInput),
    _on("D9_working_folder_and_environment", StartsElsewhere),
    _on("D9_working_folder_and_environment", LosesTheEnvironment),
    _on("D10_a_script_of_a_mebibyte", ScriptsAreArguments),
    _on("D10_code_of_a_mebibyte", ScriptsAreArguments),
    _on("D11_executions_at_the_same_time", MixesOutput),
    _on("D11_none_waits_for_another", OneAtATime, factor=0.05),
    _on("D12_cancel_from_another_thread", EndsLate),
    _on("D12_cancel_ends_the_whole_tree", KillsNothing),
    _core(
        "D12_cancelling_a_loop_over_a_stream",
        "waits-for-the-next-piece",
        "stockade.aio.execution.AsyncExecution._end",
        _waits_for_a_piece,
        factor=0.5,
    ),
    _on("D13_pieces_come_as_they_are_printed", HoldsOutputBack),
    _on("D14_a_sandbox_that_dies", DiesQuietly),
    _on("D15_no_deadline_is_none_and_left_out_is_the_sessions", KeepsADeadlineOfItsOwn),
    _core(
        "D15_no_deadline_is_none_and_left_out_is_the_sessions",
        "none-is-the-sessions",
        "stockade.executions._forms.ExecRequest",
        _with_a_deadline,
    ),
    _core(
        "D15_without_a_deadline_the_lifetime_stands",
        "lives-for-ever",
        "stockade.sessions._lifetimes.Lifetimes.arm",
        lambda *_: None,
        factor=0.3,
    ),
    _on("D15_a_relative_folder_starts_at_the_sessions", StartsAtTheTop),
    _core(
        "D15_a_relative_folder_starts_at_the_sessions",
        "starts-at-the-root",
        "stockade.executions._forms.working_folder",
        lambda _, folder: f"/{folder or 'workspace'}",
    ),
]
