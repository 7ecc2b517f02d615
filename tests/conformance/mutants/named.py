"""Mutants of D20: named interpreters that differ from fresh ones, on a base that has some."""

from __future__ import annotations

import functools
import socket
import subprocess

import attrs

from conformance.mutants.base import Changed, Mutant, PlainSandbox, suite
from stockade.testing import ProviderConformance
from stockade.toolkit.supervised import SocketTransport, SupervisedSandbox
from stockade.wall import ExecRequest, Exit, Output, Running
from stockade_supervisor import binary

__all__ = ["NAMED", "named_suite"]


class _Here(SupervisedSandbox):
    """A supervisor as this machine's own process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [binary(), "serve"], stdin=theirs.fileno(), stdout=theirs.fileno()
            )
        super().__init__(SocketTransport(ours), startup_seconds=20)

    def destroy(self) -> None:
        self._process.wait(20)


class WithNames(PlainSandbox):
    """The base, with a supervisor for what asks for a named interpreter."""

    _here: _Here | None = None
    stateful_languages = ("python", "bash")

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.state is None:
            return super().start(request, output)
        if self._here is None:
            self._here = _Here()
        folder = self.inside(request.working_dir)
        return self._here.start(attrs.evolve(self.changed(request), working_dir=folder), output)

    def changed(self, request: ExecRequest) -> ExecRequest:
        """What a mutant makes of a named interpreter's request."""
        return request

    def restart(self, state: str, language: str) -> None:
        if self._here is not None:
            self._here.restart(state, language)

    def close(self) -> None:
        if self._here is not None:
            self._here.close()
        super().close()


class HasArgumentsOfItsOwn(WithNames):
    """The arguments are those of what serves the interpreter."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        head = "__import__('sys').argv[:] = ['-c', 'named']\n"
        return attrs.evolve(request, script=head + request.script.removeprefix("\ufeff"))


class KnowsNoPaths(WithNames):
    """What PYTHONPATH names came too late for the interpreter."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        return attrs.evolve(request, env={})


class TakesNoMark(WithNames):
    """A byte order mark is a syntax error."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        return attrs.evolve(request, script=request.script.replace("\ufeff", "\ufeff\ufeff"))


class LivesOnAfterExit(WithNames):
    """``exit`` has its code and its word, and the variables stay."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        started = super().start(request, output)
        code = 7 if "7" in request.script else int("why" in request.script)

        class Other(Changed):
            def wait(self) -> Exit:
                self.inner.wait()
                return Exit(code=code)

        return Other(started) if "exit" in request.script else started

    def changed(self, request: ExecRequest) -> ExecRequest:
        if "exit" not in request.script:
            return request
        text = f"try: exec({request.script!r}, globals())\n"
        text += "except SystemExit as e: __import__('sys').stderr.write(f'{e}')\n"
        return attrs.evolve(request, script=text)


class LosesTheCode(WithNames):
    """An exit ends it, and says nothing of its code."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        return attrs.evolve(request, script=request.script.replace("exit(7)", "exit(0)"))


class EndsWithAnError(WithNames):
    """What nobody catches ends the interpreter, as it does a fresh one."""

    def changed(self, request: ExecRequest) -> ExecRequest:
        if "raise" not in request.script:
            return request
        text = f"import traceback\ntry: exec({request.script!r}, globals())\n"
        text += "except BaseException: traceback.print_exc(); exit(1)\n"
        return attrs.evolve(request, script=text)


def named_suite(sandbox: type[PlainSandbox] = WithNames) -> ProviderConformance:
    """The suite on it, with named interpreters claimed."""
    return suite(sandbox, stateful="native")


def _on(check: str, sandbox: type[WithNames]) -> Mutant:
    make = functools.partial(named_suite, sandbox)
    return Mutant(name=sandbox.__name__, check=check, make=make)


NAMED = [
    _on("D20_a_named_interpreter_starts_as_a_fresh_one", HasArgumentsOfItsOwn),
    _on("D20_a_named_interpreter_starts_as_a_fresh_one", KnowsNoPaths),
    _on("D20_a_named_interpreter_starts_as_a_fresh_one", TakesNoMark),
    _on("D20_an_exit_ends_a_named_interpreter", LivesOnAfterExit),
    _on("D20_an_exit_ends_a_named_interpreter", LosesTheCode),
    _on("D20_errors_and_interrupts_leave_the_state", EndsWithAnError),
]
