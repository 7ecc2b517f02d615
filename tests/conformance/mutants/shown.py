"""Mutants of D20: what is shown lost, forged and without bounds; and state that is not kept."""

from __future__ import annotations

import functools

import attrs

from conformance.mutants.base import Changed, ChangedOutput, Mutant, suite
from conformance.mutants.named import WithNames
from stockade.executions._output import BoundedOutput
from stockade.executions._shown import Shown
from stockade.results import Stream
from stockade.testing import ProviderConformance
from stockade.wall import ExecRequest, Form, Output, Running

__all__ = ["SHOWN", "shown_suite"]


class ShowsNothing(WithNames):
    """Values and displays get lost."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Blind(ChangedOutput):
            def show(self, data: bytes) -> None:
                return

        return super().start(request, Blind(output))


class PrintsTheValue(WithNames):
    """The last expression's value stands on standard output, too, as in a terminal."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Printing(ChangedOutput):
            def show(self, data: bytes) -> None:
                self.inner.write(Stream.STDOUT, data[-4:])
                self.inner.show(data)

        return super().start(request, Printing(output))


class ForgetsErrors(WithNames):
    """An error is printed, and nothing more."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Forgetting(ChangedOutput):
            def show(self, data: bytes) -> None:
                if data[4:5] != b"E":
                    self.inner.show(data)

        return super().start(request, Forgetting(output))


class BelievesOutput(WithNames):
    """Records are found in what is printed."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Believing(ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(stream, data)
                if data[4:5] == b"D":
                    self.inner.show(data)

        return super().start(request, Believing(output))


class KnowsNoAwait(WithNames):
    """``await`` at the top gives what nobody has awaited."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        return attrs.evolve(request, script=request.script.replace("await ", ""))


class WaitsForInput(WithNames):
    """``input`` waits for somebody who never comes."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        script = request.script.replace("input('who? ')", "__import__('time').sleep(30)")
        return attrs.evolve(request, script=script)


class InterruptsByEnding(WithNames):
    """An interrupt ends the interpreter, and its state is lost."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Other(Changed):
            def interrupt(self) -> None:
                self.inner.kill()

        return Other(super().start(request, output))


class RestartsNothing(WithNames):
    """What was there is there after a restart."""

    def restart(self, state: str, language: str) -> None:
        return


class LeavesProgramsRunning(WithNames):
    """A restart ends the interpreter, and what it left running lives on."""

    def restart(self, state: str, language: str) -> None:
        here = self._here
        if here is not None:
            end = ExecRequest(
                execution_id="end",
                form=Form.CODE,
                language="python",
                interpreter="python3",
                script="import os; os._exit(0)",
                state=state,
                working_dir="/",
            )
            here.start(end, BoundedOutput(1)).wait()


class StartsAnew(WithNames):
    """A name is no more than a word."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        self.count = getattr(self, "count", 0) + 1
        return attrs.evolve(request, state=f"{request.state}-{self.count}")


class ReadsNothing(WithNames):
    """Input goes to the first code alone."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        given, self.given = getattr(self, "given", False), True
        return attrs.evolve(request, stdin=b"") if given else request


class PrintsLate(WithNames):
    """What was left behind prints where the interpreter prints by then."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        started = super().start(request, output)
        late, self.late = getattr(self, "late", False), "late" in request.script
        if late:
            output.write(Stream.STDOUT, b"late\n")
        return started


def shown_suite(sandbox: type[WithNames] = WithNames, factor: float = 1.0) -> ProviderConformance:
    """The suite on it, with what notebooks have claimed."""
    return suite(sandbox, stateful="native", notebook="native", factor=factor)


def _on(check: str, sandbox: type[WithNames], factor: float = 1.0) -> Mutant:
    make = functools.partial(shown_suite, sandbox, factor)
    return Mutant(name=sandbox.__name__, check=check, make=make)


SHOWN = [
    _on("D20_the_last_value_and_displays_are_given", ShowsNothing),
    _on("D20_the_last_value_and_displays_are_given", PrintsTheValue),
    _on("D20_errors_have_name_message_and_traceback", ForgetsErrors),
    _on("D20_output_is_never_a_display", BelievesOutput),
    Mutant(
        name="keeps-all",
        check="D20_displays_are_bounded",
        make=shown_suite,
        patch=lambda patch: patch.setattr(
            "stockade.executions._output.Shown", lambda limit: Shown(1 << 30)
        ),
    ),
    _on("D20_await_stands_at_the_top", KnowsNoAwait),
    _on("D20_input_fails_at_once_where_there_is_none", WaitsForInput, 0.2),
    _on("D20_an_interrupt_keeps_the_state", InterruptsByEnding),
    _on("D20_interpreters_of_other_languages_keep_their_state", StartsAnew),
    _on("D20_their_code_has_input_and_variables_of_its_own", ReadsNothing),
    _on("D20_what_their_code_left_behind_prints_into_no_later_one", PrintsLate),
    _on("D20_a_restart_begins_anew", RestartsNothing),
    _on("D20_a_restart_begins_anew", LeavesProgramsRunning),
]
