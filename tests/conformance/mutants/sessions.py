"""Mutants of C: sessions that leave something, and a registry that is broken."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
import threading
import time

import attrs

from conformance.mutants.base import Changed, Mutant, PlainSandbox, PlainWall, suite
from conformance.mutants.forked import FORKED
from conformance.mutants.left import LEFT
from conformance.mutants.selecting import _core, _plugin
from stockade.errors import DestroyError
from stockade.results import SessionStatus
from stockade.sessions._registry import SessionRecord, SessionRegistry
from stockade.sessions._runtime import Runtime
from stockade.wall import ExecRequest, Exit, OpenRequest, Output, Running, Sandbox

_numbers = itertools.count()


def _numbered(word: str) -> str:
    return f"{word}-{next(_numbers):040d}"


def _anybody(self: SessionRegistry, agent_id: str, session_id: str) -> SessionRecord:
    for record in self.records():
        if record.session_id == session_id:
            return record
    return self.records()[0]


class TakesTheAgentAlong(PlainSandbox):
    agent = ""

    def __init__(self, request: OpenRequest) -> None:
        super().__init__(request)
        self.agent = request.agent_hash

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        argv = ("sh", "-c", 'shift; "$@"; exit $?', "sh", self.agent, *request.argv)
        return super().spawn(attrs.evolve(request, argv=argv))


class LeavesItsFolder(PlainSandbox):
    def close(self) -> None:
        self.die()


class LeavesAProcess(PlainWall):
    """A helper for each sandbox that nobody ends."""

    def open(self, request: OpenRequest) -> Sandbox:
        # It ends by itself, but far later than any check.
        os.posix_spawnp("sleep", ["sleep", "20"], os.environ)
        return super().open(request)


class EndsNothing(PlainSandbox):
    """Asked to end a program or to close, it does neither for a while."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Deaf(Changed):
            def kill(self) -> None: ...

        return Deaf(super().start(request, output))

    def close(self) -> None:
        time.sleep(2.5)
        super().close()


_one_at_a_time = threading.Lock()


class OneAtATime(PlainSandbox):
    """Executions of all sessions wait for one another."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Queued(Changed):
            def wait(self) -> Exit:
                with _one_at_a_time:
                    return self.inner.wait()

        with _one_at_a_time:
            return Queued(super().start(request, output))


class NotForManyThreads(PlainSandbox):
    """The last request stands for all that start at the same time."""

    request: ExecRequest

    def start(self, request: ExecRequest, output: Output) -> Running:
        self.request = request
        time.sleep(0.02)
        return super().start(self.request, output)


def _no_limit(*_: object) -> None: ...


_destroy = Runtime.destroy


def _ends_without_a_word(self: Runtime, record: SessionRecord) -> None:
    with contextlib.suppress(DestroyError):
        _destroy(self, record)


SESSIONS = [
    _core(
        "C1_an_agents_id_never_shows",
        "agent-on-a-command-line",
        "stockade.sessions._runtime.agent_hash",
        lambda agent: agent,
        sandbox=TakesTheAgentAlong,
    ),
    _core(
        "C1_an_agents_id_is_checked",
        "any-agent",
        "stockade.sessions._runtime.check_agent_id",
        lambda agent: str(agent),
    ),
    _core(
        "C2_ids_are_long_and_unlike",
        "numbered-sessions",
        "stockade.sessions._runtime.new_session_id",
        functools.partial(_numbered, "ses"),
    ),
    _core(
        "C2_ids_are_long_and_unlike",
        "numbered-executions",
        "stockade.executions._forms.new_execution_id",
        functools.partial(_numbered, "exe"),
    ),
    _core(
        "C3_a_session_answers_to_its_agent_alone",
        "anybodys-session",
        "stockade.sessions._registry.SessionRegistry.get",
        _anybody,
    ),
    _core(
        "C4_the_state_is_the_present_one",
        "a-copy-of-the-state",
        "stockade.session.Session.status",
        SessionStatus.READY,
    ),
    Mutant(
        name="leaves-its-folder",
        check="C5_a_failed_creation_leaves_nothing",
        make=functools.partial(suite, LeavesItsFolder, factor=0.1),
        says="stockade-leftovers-",
    ),
    Mutant(
        name="leaves-a-process",
        check="C5_a_failed_creation_leaves_nothing",
        make=functools.partial(suite, wall=LeavesAProcess, factor=0.1),
        says="sleep",
    ),
    Mutant(
        name="leaves-its-folder",
        check="C6_the_end_leaves_nothing",
        make=functools.partial(suite, LeavesItsFolder, factor=0.1),
        says="stockade-leftovers-",
    ),
    Mutant(
        name="forgets-a-process",
        check="C6_the_end_leaves_nothing",
        make=functools.partial(suite, wall=LeavesAProcess, factor=0.1),
        says="sleep",
    ),
    _core(
        "C6_a_failed_end_can_be_tried_again",
        "a-failed-end-is-forgotten",
        "stockade.sessions._runtime.Runtime.destroy",
        _ends_without_a_word,
    ),
    Mutant(
        name="ends-late",
        check="C7_destroying_gives_the_callers_a_result",
        make=functools.partial(suite, EndsNothing, factor=0.15),
        says="TimeoutError",
    ),
    Mutant(
        name="one-at-a-time",
        check="C8_sessions_do_not_wait_for_one_another",
        make=functools.partial(suite, OneAtATime, factor=0.05),
    ),
    Mutant(
        name="not-for-many-threads",
        check="C8_calls_from_many_threads",
        make=functools.partial(suite, NotForManyThreads),
    ),
    *LEFT,
    _plugin(
        "C10_another_process_attaches_and_destroys",
        "attaches-to-another",
        wall="""
    def attach(self, request):
        from stockade.testing.subprocesses import PlainSandbox
        return PlainSandbox(request)
""",
        target="",
    ),
    _core(
        "C11_a_busy_session_ends_with_its_lifetime",
        "no-lifetime",
        "stockade.sessions._runtime.Runtime.limit_life",
        _no_limit,
        factor=0.1,
    ),
    *FORKED,
    _core(
        "C11_an_idle_session_ends",
        "no-idle-lifetime",
        "stockade.sessions._runtime.Runtime.limit_life",
        _no_limit,
        factor=0.2,
    ),
]
