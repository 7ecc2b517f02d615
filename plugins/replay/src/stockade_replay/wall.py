"""The provider ``replay:FILE``: answers recorded requests, executes nothing, refuses the rest."""

from __future__ import annotations

import collections
import copy
import threading
import weakref
from collections.abc import Mapping
from typing import ClassVar

import attrs

from stockade.capabilities import Capabilities, Feature, Isolation
from stockade.errors import ConfigError, SandboxLostError, StockadeError
from stockade.plugin import JudgedExecution, SandboxResult
from stockade.results import Stream, Verdict
from stockade.values.options import as_bool, as_int
from stockade.wall import (
    Availability,
    Check,
    ExecRequest,
    Exit,
    OpenRequest,
    Option,
    Output,
    Running,
    Sandbox,
    Wall,
)
from stockade_replay.recording import Recording, RecordingError

__all__ = ["ReplaySandbox", "ReplayWall", "answer"]

#: What a recording cannot answer; all else is held, since nothing is executed.
_LACKING = frozenset(
    {
        Feature.FILES,
        Feature.SNAPSHOT,
        Feature.PAUSE,
        Feature.LIVE_INPUT,
        Feature.SIGNALS,
        Feature.TERMINAL,
        Feature.PORTS,
        Feature.DURABLE,
        Feature.WATCH,
    }
)
_HELD = Capabilities(
    {
        feature: ("emulated", "nothing is executed: the answers are recorded")
        for feature in Feature
        if feature not in _LACKING
    }
)

#: The open sandboxes by session, for the hook.
_open: weakref.WeakValueDictionary[str, ReplaySandbox] = weakref.WeakValueDictionary()


class ReplaySandbox(Sandbox):
    """One session's way through the recording: each request's answers, one after the other."""

    def __init__(self, recording: Recording, folder: str, *, repeat: bool) -> None:
        self._recording = recording
        self._folder = folder
        self._repeat = repeat
        self._lock = threading.Lock()
        self._asked: collections.Counter[str] = collections.Counter()
        self._answers: dict[str, SandboxResult | StockadeError] = {}
        self._ended = threading.Event()

    def answer(self, request: ExecRequest) -> SandboxResult | StockadeError:
        """The next answer to this request; the same one until it is ``given``.

        Raises NotRecordedError.
        """
        key = self._recording.key(request, self._folder)
        with self._lock:
            if request.execution_id not in self._answers:
                before = self._asked[key]
                found = self._recording.answer(request, self._folder, before, repeat=self._repeat)
                self._asked[key] += 1
                self._answers[request.execution_id] = found
            return self._answers[request.execution_id]

    def given(self, request: ExecRequest) -> None:
        """The caller has the answer: it need not be kept."""
        with self._lock:
            self._answers.pop(request.execution_id, None)

    def start(self, request: ExecRequest, output: Output) -> Running:
        if self._ended.is_set():
            raise SandboxLostError("the session is closed.")
        end = self.answer(request)
        self.given(request)
        if isinstance(end, StockadeError):
            raise copy.copy(end)  # with a traceback of its own, since it may be given again
        return _Replayed(end, output, self._ended)

    def languages(self) -> tuple[str, ...]:
        return self._recording.languages

    def close(self) -> None:
        self._ended.set()


class _Replayed(Running):
    """An answer where it cannot be given as a whole: below other walls, such as chaos."""

    def __init__(self, result: SandboxResult, output: Output, gone: threading.Event) -> None:
        self._result = result
        self._output = output
        self._gone = gone
        self._killed = threading.Event()

    def wait(self) -> Exit:
        result = self._result
        self._output.write(Stream.STDOUT, result.stdout_bytes)
        self._output.write(Stream.STDERR, result.stderr_bytes)
        if self._gone.is_set():
            raise SandboxLostError("the session was closed meanwhile.")
        if result.verdict is Verdict.EXITED:
            return Exit(code=result.exit_code)
        if result.verdict in (Verdict.SIGNALLED, Verdict.OUT_OF_MEMORY):
            memory = result.verdict is Verdict.OUT_OF_MEMORY
            return Exit(signal=result.signal or 9, out_of_memory=memory)
        self._killed.wait()  # it was core that ended it, and core ends this one
        return Exit(signal=9)

    def kill(self) -> None:
        self._killed.set()


class ReplayWall(Wall):
    """A recording in the place of a wall."""

    isolation = Isolation.NONE
    summary = "a recording: its answers, and nothing is executed"
    capabilities = _HELD
    options: ClassVar[Mapping[str, Option]] = {
        "repeat": Option(as_bool, False, "give a request's last answer again where it has no more"),
        "session": Option(as_int, None, "answer from this session of the recording alone, from 1"),
    }

    def probe(self) -> Availability:
        try:
            count = len(self._read().entries)
        except (RecordingError, ConfigError) as error:
            remedy = "stockade run --record FILE …, then replay:FILE"
            return Availability((Check("recording", False, str(error), remedy),))
        return Availability((Check("recording", True, f"{count} executions"),))

    def open(self, request: OpenRequest) -> ReplaySandbox:
        sandbox = ReplaySandbox(
            self._read(), request.config.working_dir, repeat=self.chosen["repeat"]
        )
        _open[request.session_id] = sandbox
        return sandbox

    def _read(self) -> Recording:
        if self.target is None:
            raise ConfigError("replay names no recording: write replay:FILE.")
        return Recording.read(self.target, self.chosen["session"])


def answer(execution: JudgedExecution) -> SandboxResult | None:
    """The recorded result as it was (verdict, times, what was cut), for a session of this
    provider; None for others, and for errors, which the sandbox raises itself."""
    sandbox = _open.get(execution.session_id) if execution.provider == "replay" else None
    if sandbox is None:
        return None
    end = sandbox.answer(execution.request)
    if isinstance(end, StockadeError):
        return None
    sandbox.given(execution.request)
    return _bounded(end, execution.output_limit_bytes)


def _bounded(result: SandboxResult, limit: int) -> SandboxResult:
    """No more output than was asked for now (D5)."""
    stdout, stderr = result.stdout_bytes[:limit], result.stderr_bytes[:limit]
    return attrs.evolve(
        result,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        stdout_truncated=result.stdout_total_bytes > len(stdout),
        stderr_truncated=result.stderr_total_bytes > len(stderr),
        stdout_gap=_gap(result.stdout_gap, result.stdout_total_bytes, stdout),
        stderr_gap=_gap(result.stderr_gap, result.stderr_total_bytes, stderr),
    )


def _gap(recorded: int | None, total: int, kept: bytes) -> int | None:
    """Where bytes are missing now: where they were already, or behind what is kept."""
    if total == len(kept):
        return None
    return len(kept) if recorded is None else min(recorded, len(kept))
