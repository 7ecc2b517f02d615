"""Mutants of D17, D18 and D19: programs that are reached wrongly, or not at all, while they run."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import attrs

from conformance.mutants.base import Changed, Mutant, PlainSandbox
from conformance.mutants.executing import _on
from conformance.mutants.selecting import _core
from stockade.config import OutputKeep
from stockade.executions._kept import Kept, Recent
from stockade.executions._output import BoundedOutput, OutputReader
from stockade.executions._program import Program
from stockade.results import Chunk
from stockade.testing.terminals import PlainTerminal
from stockade.wall import ExecRequest, Exit, Output, Running, Terminal, TerminalRequest


def _runs(name: str, **methods: Any) -> type[PlainSandbox]:
    """A sandbox whose running programs have these methods instead of their own."""
    kind = type(name, (Changed,), methods)

    class Sandbox(PlainSandbox):
        def start(self, request: ExecRequest, output: Output) -> Running:
            running: Running = kind(super().start(request, output))
            return running

    Sandbox.__name__ = name
    return Sandbox


def _shows(name: str, **methods: Any) -> type[PlainSandbox]:
    """A sandbox whose terminals have these methods instead of their own."""
    kind = type(name, (PlainTerminal,), methods)

    class Sandbox(PlainSandbox):
        def terminal(self, request: TerminalRequest) -> Terminal:
            made = super().terminal(request)
            made.__class__ = kind
            return made

    Sandbox.__name__ = name
    return Sandbox


class ClosesInputAtOnce(PlainSandbox):
    """Input that was to stay open is empty."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Deaf(Changed):
            def write(self, data: bytes, seconds: float) -> int:
                return len(data)

            def close_input(self) -> None: ...

        if not request.live_input:
            return super().start(request, output)
        return Deaf(super().start(attrs.evolve(request, live_input=False), output))


class TakesAllInput(PlainSandbox):
    """Whatever is written is taken at once, and waits in this process."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class Hoarding(Changed):
            def write(self, data: bytes, seconds: float) -> int:
                def feed(left: bytes) -> None:
                    try:
                        while left:
                            left = left[self.inner.write(left, seconds) :]
                    except ProcessLookupError:
                        return

                threading.Thread(target=feed, args=(data,), daemon=True).start()
                return len(data)

        return Hoarding(super().start(request, output))


class StartsWithoutMerging(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        return super().start(attrs.evolve(request, merge=False), output)


class ForgetsTheSize(PlainSandbox):
    def terminal(self, request: TerminalRequest) -> Terminal:
        return super().terminal(attrs.evolve(request, rows=24, columns=80))


def _half(self: Any, data: bytes, seconds: float) -> int:
    """Half of what was taken is lost."""
    return 2 * int(self.inner.write(data[: len(data) // 2], seconds)) if len(data) > 1 else 1


def _from_the_start(self: BoundedOutput, offset: int | None) -> OutputReader:
    return _joined(self, 0)


_joined = BoundedOutput.join
_read = Recent.read


def _unmarked(self: Recent, position: int, number: int) -> tuple[Chunk | None, int]:
    chunk, after = _read(self, position, number)
    return (chunk and attrs.evolve(chunk, dropped=0)), after


def _paced_by_all(self: BoundedOutput, offset: int | None) -> OutputReader:
    """Whoever joins holds the program back."""
    self.pace()
    return _joined(self, offset)


def _keeps(self: Kept, limit: int, keep: OutputKeep) -> None:
    _made(self, limit, OutputKeep.HEAD)


_made = Kept.__init__


def _interleaved(self: Program, data: bytes, cancelled: Any) -> None:
    """Nobody waits for another writer."""
    view = memoryview(data)
    while view:
        running = self._there(1.0)
        if running is not None:
            view = view[self._put(running, bytes(view[:4096])) :]


def _without_control_keys(self: PlainTerminal, data: bytes) -> None:
    PlainTerminal.write(self, data.replace(b"\x03", b""))


async def _types_nothing(_: Any, __: bytes | str) -> None:
    return


def _alone(self: PlainTerminal) -> None:
    """The program alone is ended, and its tree lives on."""
    with contextlib.suppress(ProcessLookupError):
        self.signal(9, group=False)


def _ended_alone(self: PlainTerminal) -> Exit:
    code = self._process.wait()
    return Exit(code=code) if code >= 0 else Exit(signal=-code)


_RECEIVES = "D18_a_signal_reaches_the_program"
_JOINED = "D18_output_is_joined_late_and_several_times"
_WRITTEN = "D17_input_is_written_and_closed_later"
_TYPED = "D19_what_is_typed_arrives_and_is_shown"
_TOLD = "D19_a_size_and_a_signal_reach_the_program"

RUNNING: list[Mutant] = [
    _core(
        "D18_running_executions_are_listed_with_their_ids",
        "lists-nothing",
        "stockade.session._session.running",
        lambda _: (),
    ),
    _core(
        "D18_running_executions_are_listed_with_their_ids",
        "lists-what-has-ended",
        "stockade.sessions._registry.SessionRecord.discard",
        lambda *_: None,
    ),
    _on(_RECEIVES, _runs("LosesSignals", signal=lambda _s, _n, *, group: None), factor=0.2),
    _on(_RECEIVES, _runs("SignalsAreKills", signal=lambda s, _n, *, group: s.inner.kill())),
    _on(
        _RECEIVES,
        _runs("SignalsTheGroup", signal=lambda s, n, *, group: s.inner.signal(n, group=True)),
    ),
    _on(
        _RECEIVES,
        _runs("SignalsNoGroup", signal=lambda s, n, *, group: s.inner.signal(n, group=False)),
        factor=0.2,
    ),
    _core(
        "D18_a_program_that_is_gone_gets_no_signal",
        "signals-the-dead",
        "stockade.executions._program.Program.signal",
        lambda *_, **__: None,
    ),
    _core(
        "D18_signals_are_refused_where_there_are_none",
        "signals-anyway",
        "stockade.executions._reaching.Reachable.signal",
        lambda *_, **__: None,
        signals="unsupported",
    ),
    _core(
        _JOINED,
        "joins-at-the-beginning-always",
        "stockade.executions._output.BoundedOutput.join",
        _from_the_start,
    ),
    _core(
        _JOINED,
        "shows-nothing-late",
        "stockade.executions._output.BoundedOutput.join",
        lambda self, _: _joined(self, None),
    ),
    _core(
        "D18_what_a_reader_missed_is_marked",
        "hides-gaps",
        "stockade.executions._kept.Recent.read",
        _unmarked,
    ),
    _core(
        "D18_a_reader_that_joined_holds_nobody_up",
        "waits-for-everybody",
        "stockade.executions._output.BoundedOutput.join",
        _paced_by_all,
        factor=0.1,
    ),
    _on(_WRITTEN, ClosesInputAtOnce),
    _on(_WRITTEN, _runs("NeverClosesInput", close_input=lambda _: None), factor=0.2),
    _on("D17_code_reads_what_is_written_later", ClosesInputAtOnce),
    _on("D17_every_byte_arrives_from_any_thread", _runs("LosesHalfOfInput", write=_half)),
    _core(
        "D17_every_byte_arrives_from_any_thread",
        "mixes-writers",
        "stockade.executions._program.Program.write",
        _interleaved,
    ),
    _on("D17_who_does_not_read_holds_the_writer_back", TakesAllInput),
    _core(
        "D17_a_program_that_has_ended_takes_nothing",
        "writes-to-the-dead",
        "stockade.executions._program.Program.write",
        lambda *_: None,
    ),
    _core(
        "D17_a_cancelled_write_ends_at_once",
        "is-deaf-to-cancels",
        "stockade.executions._program.Program._go_on",
        lambda *_: None,
        factor=0.2,
    ),
    _core(
        "D17_open_input_is_refused_where_there_is_none",
        "opens-it-anyway",
        "stockade.capabilities.Capabilities.require",
        lambda *_: None,
        live_input="unsupported",
    ),
    _core(
        "D5_the_tail_or_both_ends_by_choice",
        "keeps-the-head-always",
        "stockade.executions._kept.Kept.__init__",
        _keeps,
    ),
    _on("D5_both_streams_merged_in_the_order_of_writing", StartsWithoutMerging),
    _core(
        "D5_merging_is_refused_where_it_cannot_be",
        "merges-nothing-quietly",
        "stockade.capabilities.Capabilities.require",
        lambda *_: None,
        merged_output="unsupported",
    ),
    _core(
        "D8_text_is_input_as_utf8",
        "encodes-otherwise",
        "stockade.executions._forms.as_bytes",
        lambda _, data: data.encode("latin-1") if isinstance(data, str) else data,
    ),
    _on("D9_a_user_of_one_execution", PlainSandbox, "ignores-the-user", execution_user="native"),
    _core(
        "D9_another_user_is_refused_where_there_can_be_none",
        "ignores-the-user-quietly",
        "stockade.capabilities.Capabilities.require",
        lambda *_: None,
    ),
    _on(
        "D19_a_program_has_a_terminal_of_that_size",
        ForgetsTheSize,
        factor=0.2,
    ),
    _on(_TYPED, _shows("LosesWhatIsTyped", write=lambda *_: None), factor=0.1),
    _on(
        "D19_keys_that_mean_a_signal_send_it",
        _shows("EatsControlKeys", write=_without_control_keys),
        factor=0.2,
    ),
    _on(_TOLD, _shows("IgnoresResizes", resize=lambda *_: None), factor=0.1),
    _on(_TOLD, _shows("LosesTerminalSignals", signal=lambda *_, **__: None), factor=0.3),
    _core(
        "D19_it_is_listed_and_joined_and_its_deadline_holds",
        "terminals-have-no-deadline",
        "stockade.executions._terminals.deadline",
        lambda *_: None,
        factor=0.3,
    ),
    _on(
        "D19_its_end_takes_its_tree_along", _shows("HangsUpAlone", close=_alone, ended=_ended_alone)
    ),
    _core(
        "D19_awaited_it_is_the_same",
        "awaits-nothing",
        "stockade.aio.execution.AsyncExecution.write",
        _types_nothing,
        factor=0.2,
    ),
    _core(
        "D19_terminals_are_refused_where_there_are_none",
        "starts-terminals-anyway",
        "stockade.capabilities.Capabilities.require",
        lambda *_: None,
        terminal="unsupported",
    ),
]
