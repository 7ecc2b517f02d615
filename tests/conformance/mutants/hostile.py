"""Mutants of D16, and of D6 where programs mean to escape: walls that such programs harm.

The base is no wall, so what goes for every process in sight must not run on it: it is
taken for having run, and then the wall behaves as one that it has harmed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess

import attrs
import pytest

from conformance.mutants.base import Changed, Mutant, PlainSandbox, suite
from stockade.errors import SandboxLostError
from stockade.results import Stream
from stockade.testing import subprocesses
from stockade.testing.checks.d_hostile import ATTACK, LEAVES, LOOK
from stockade.toolkit.processes.pump import LocalRunning
from stockade.wall import ExecRequest, Exit, Form, Output, Running

__all__ = ["HOSTILE", "Unharmed"]


class Unharmed(PlainSandbox):
    """Says that its processes are its own, and runs no attack."""

    attacked = False

    def start(self, request: ExecRequest, output: Output) -> Running:
        if ATTACK in request.script:
            self.attacked = True
            script = "exit 0" if LEAVES in request.script else "sleep 300"
            return super().start(attrs.evolve(request, script=script), output)
        if request.form is Form.SHELL and request.script == LOOK:
            return super().start(attrs.evolve(request, script="echo 'pid:[1]'"), output)
        return self.after(request, output) if self.attacked else super().start(request, output)

    def after(self, request: ExecRequest, output: Output) -> Running:
        """Start what comes after an attack."""
        return super().start(request, output)


class IsLost(Unharmed):
    def after(self, request: ExecRequest, output: Output) -> Running:
        raise SandboxLostError("the supervisor has ended; open a new session.")


class StandsStill(Unharmed):
    def after(self, request: ExecRequest, output: Output) -> Running:
        return super().after(attrs.evolve(request, script="sleep 300"), output)


class CodeStandsStill(Unharmed):
    """Who waits for code was stopped; everything else goes on."""

    def after(self, request: ExecRequest, output: Output) -> Running:
        if request.form is Form.CODE:
            request = attrs.evolve(request, script="import time; time.sleep(300)")
        return super().after(request, output)


class CodeIsLimited(Unharmed):
    """Who waits for code has the limits that another program gave it."""

    def after(self, request: ExecRequest, output: Output) -> Running:
        if request.form is Form.CODE:
            limits = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
            request = attrs.evolve(request, script=limits + request.script)
        return super().after(request, output)


class SaysWhatWasWritten(Unharmed):
    def after(self, request: ExecRequest, output: Output) -> Running:
        running = super().after(request, output)
        output.write(Stream.STDOUT, b"forged\n")
        return running


class IsOpenToWhatIsLeft(Unharmed):
    """What was open to it is noted, in a file of the session's."""

    def after(self, request: ExecRequest, output: Output) -> Running:
        running = super().after(request, output)
        if "reached" in request.script:
            output.write(Stream.STDOUT, b"mem\n")
        return running


class HearsTheDead(PlainSandbox):
    """Its executions' output is one channel, and what is left behind goes on printing there."""

    pipes: tuple[int, ...] = ()

    def serve(
        self, process: subprocess.Popen[bytes], request: ExecRequest, output: Output
    ) -> Running:
        assert process.stdout is not None
        earlier, self.pipes = self.pipes, (*self.pipes, os.dup(process.stdout.fileno()))

        class Hearing(Changed):
            def wait(self) -> Exit:
                ended = super().wait()
                for pipe in earlier:
                    os.set_blocking(pipe, False)
                    with contextlib.suppress(BlockingIOError):
                        output.write(Stream.STDOUT, os.read(pipe, 65536))
                return ended

        return Hearing(LocalRunning(process, request.stdin, output))

    def close(self) -> None:
        pipes, self.pipes = self.pipes, ()
        for pipe in pipes:
            os.close(pipe)  # whoever prints there ends of it
        super().close()


_marked = subprocesses._marked


def _unchanged(mark: str) -> list[int]:
    """Of a tree, who has not changed its limits."""
    return [pid for pid in _marked(mark) if _limits(pid) == _limits(os.getpid())]


def _limits(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/limits") as file:
            return [line for line in file if line.startswith("Max data size")]
    except OSError:
        return []


def _finds_by_limits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("stockade.testing.subprocesses._marked", _unchanged)


_WRITING = "D16_writing_to_what_reports_changes_no_result"
_WAITING = "D16_signals_to_who_waits_for_code_hold_none_up"
_LIMITS = "D16_limits_and_priorities_of_others_are_no_programs"
_REACHING = "D16_what_is_left_reaches_into_no_later_execution"
_BOMB = "D6_a_bomb_with_a_deadline_leaves_the_session_usable"


def _harmed(
    check: str, sandbox: type[PlainSandbox], *, says: str = "", factor: float = 1.0
) -> Mutant:
    made = functools.partial(suite, sandbox, factor=factor, processes="native")
    return Mutant(name=sandbox.__name__, check=check, make=made, says=says)


HOSTILE = [
    Mutant(
        name="finds-a-tree-by-limits",
        check="D6_no_change_of_its_own_saves_a_program",
        make=suite,
        patch=_finds_by_limits,
        says="ulimit",
    ),
    _harmed(_BOMB, IsLost),
    _harmed(_BOMB, StandsStill, says="a usable session", factor=0.2),
    _harmed("D16_what_outlives_its_execution_is_not_heard_in_the_next", HearsTheDead),
    _harmed(_WRITING, SaysWhatWasWritten, says="forged"),
    _harmed(_WRITING, IsLost),
    _harmed("D16_signals_to_what_reports_cost_no_session", IsLost),
    _harmed("D16_signals_to_what_reports_cost_no_session", StandsStill, says="TIMED", factor=0.2),
    _harmed("D16_tracing_what_reports_costs_no_session", StandsStill, says="TIMED", factor=0.2),
    _harmed(_WAITING, CodeStandsStill, says="code after STOP", factor=0.2),
    _harmed(_WAITING, IsLost),
    _harmed(_REACHING, SaysWhatWasWritten, says="forged", factor=0.2),
    _harmed(_REACHING, IsOpenToWhatIsLeft, says="mem", factor=0.2),
    _harmed(_LIMITS, CodeIsLimited, says="the limits of before"),
    _harmed(_LIMITS, IsLost),
]
