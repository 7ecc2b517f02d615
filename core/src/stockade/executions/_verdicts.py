"""From how a program ended to the one verdict that says so, and to its result (D2, D3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.errors import CancelledError, StockadeError, WallError
from stockade.results import ExecutionStatus, SandboxResult, Stream, Verdict
from stockade.wall import Exit

if TYPE_CHECKING:
    from stockade.executions._output import BoundedOutput

__all__ = ["LOST", "checked", "judge", "result_of", "status_of"]

_SIGKILL = 9
#: What is judged of a program whose sandbox is gone.
LOST = (Verdict.LOST, 128 + _SIGKILL, _SIGKILL)


def judge(ended: Exit, stop: Verdict | None) -> tuple[Verdict, int, int | None]:
    """Verdict, exit code and signal.

    ``stop`` is why core ended the program, if it did, and stands first: what
    the wall saw then is core's own kill. A program that exited keeps its code
    whatever the number, so 137 and 143 are not taken for signals.
    """
    if stop is not None:
        return stop, 128 + _SIGKILL, _SIGKILL
    if ended.out_of_memory:
        signal = ended.signal or _SIGKILL
        return Verdict.OUT_OF_MEMORY, 128 + signal, signal
    if ended.signal is not None:
        return Verdict.SIGNALLED, 128 + ended.signal, ended.signal
    assert ended.code is not None
    return Verdict.EXITED, ended.code, None


def status_of(end: SandboxResult | StockadeError) -> ExecutionStatus:
    """Where an execution is that ended so; completed means that its command succeeded."""
    if isinstance(end, StockadeError):
        cancelled = isinstance(end, CancelledError)
        return ExecutionStatus.CANCELLED if cancelled else ExecutionStatus.FAILED
    if end.verdict is Verdict.CANCELLED:
        return ExecutionStatus.CANCELLED
    return ExecutionStatus.COMPLETED if end.success else ExecutionStatus.FAILED


def result_of(
    judged: tuple[Verdict, int, int | None],
    output: BoundedOutput,
    seconds: float,
    *,
    unseen: bool = False,
) -> SandboxResult:
    """The result; ``unseen``: no middleware passes it, so there is no output in it."""
    verdict, code, signal = judged
    kept = {stream: b"" if unseen else output.data(stream) for stream in Stream}
    total = {stream: output.total(stream) for stream in Stream}
    gap = {
        stream: (0 if total[stream] else None) if unseen else output.gap(stream)
        for stream in Stream
    }
    return SandboxResult(
        exit_code=code,
        verdict=verdict,
        signal=signal,
        stdout_bytes=kept[Stream.STDOUT],
        stderr_bytes=kept[Stream.STDERR],
        duration_seconds=seconds,
        stdout_total_bytes=total[Stream.STDOUT],
        stderr_total_bytes=total[Stream.STDERR],
        stdout_truncated=total[Stream.STDOUT] > len(kept[Stream.STDOUT]),
        stderr_truncated=total[Stream.STDERR] > len(kept[Stream.STDERR]),
        stdout_gap=gap[Stream.STDOUT],
        stderr_gap=gap[Stream.STDERR],
        **({} if unseen else output.shown.fields()),
    )


def checked(ended: object) -> Exit:
    """Refuse what is no Exit that a program can have."""
    if not isinstance(ended, Exit):
        raise WallError(f"wait() returned {ended!r}, not an Exit; report it to the wall's author.")
    for number in (ended.code, ended.signal):
        if number is not None and (type(number) is not int or not 0 <= number <= 255):
            raise WallError(f"wait() returned {ended!r}: codes and signals are 0 to 255.")
    if ended.code is None and ended.signal is None and not ended.out_of_memory:
        raise WallError("wait() returned an Exit with neither code nor signal.")
    return ended
