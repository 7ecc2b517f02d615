"""From stockade's results and errors to those that inspect's contract names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
)

from stockade import SandboxResult, Verdict
from stockade.errors import (
    CancelledError,
    FileTooLargeError,
    SandboxLostError,
    SessionNotFoundError,
    SessionStateError,
    WallError,
)

__all__ = ["errors_mapped", "finished"]

_GONE = (CancelledError, SandboxLostError, SessionNotFoundError, SessionStateError, WallError)
_NOT_EXECUTABLE = 126
#: What a model and a person must know of an end that no exit code says.
_WHY = {
    Verdict.OUT_OF_MEMORY: "stockade: out of memory: the sandbox's limit (memory_mb) was passed\n",
    Verdict.OUTPUT_LIMIT: "stockade: ended, since it printed more than the limit\n",
}


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """A sandbox that is gone is inspect's own error; files and arguments raise builtin ones."""
    try:
        yield
    except _GONE as error:
        raise SandboxUnavailableError(f"the sandbox is gone: {error}") from error
    except FileTooLargeError as error:
        limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR
        raise OutputLimitExceededError(limit, None) from error


def finished(cmd: list[str], result: SandboxResult, timeout: int | None) -> ExecResult[str]:
    """The result of a program that ran. Raises TimeoutError with what it had printed,
    PermissionError where it may not be executed, SandboxUnavailableError."""
    out = _text(result.stdout_bytes, result.stdout_truncated)
    err = _text(result.stderr_bytes, result.stderr_truncated)
    if result.verdict is Verdict.TIMED_OUT:
        late = TimeoutError(f"Command timed out after {timeout} seconds")
        late.truncated_output = f"{out}{err}"  # type: ignore[attr-defined]
        raise late
    if result.verdict is Verdict.CANCELLED:
        raise SandboxUnavailableError("the sandbox was ended while the command ran")
    if result.exit_code == _NOT_EXECUTABLE and not out and err == _refusal(cmd[0]):
        raise PermissionError(13, "Permission denied", cmd[0])
    err += _WHY.get(result.verdict, "")
    return ExecResult(result.success, result.exit_code, out, err)


def _refusal(program: str) -> str:
    """The supervisor's own line for a program that may not be executed."""
    return f"stockade: {program}: Permission denied\n"


def _text(data: bytes, cut: bool) -> str:
    """A stream as text. Bytes that are no UTF-8 grow to three each, and inspect counts after
    that; a character that was cut off at the beginning goes."""
    if cut:
        start = next((at for at in range(min(4, len(data))) if data[at] & 0xC0 != 0x80), 0)
        data = data[start:]
    text = data.decode("utf-8", "replace")
    limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
    if len(text) * 4 <= limit or len(encoded := text.encode("utf-8")) <= limit:
        return text
    return encoded[-limit:].decode("utf-8", "ignore")
