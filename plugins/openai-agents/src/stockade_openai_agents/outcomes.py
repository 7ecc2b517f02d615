"""What the SDK is given of a result, and of what stockade raised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.sandbox import ExecResult, ExecTimeoutError, ExecTransportError
from agents.sandbox.errors import (
    WorkspaceArchiveReadError,
    WorkspaceIOError,
    WorkspaceReadNotFoundError,
)

from stockade import SandboxResult, Verdict
from stockade.errors import StockadeError

__all__ = ["exec_result", "not_executed", "not_read"]

_WHY = {
    Verdict.OUT_OF_MEMORY: b"it used more memory than the sandbox allows (memory_mb)",
    Verdict.CANCELLED: b"the sandbox was closed while it ran",
}


def exec_result(command: Sequence[str], result: SandboxResult, timeout: float | None) -> ExecResult:
    """Both streams, marked where bytes are missing. Raises ExecTimeoutError."""
    if result.verdict is Verdict.TIMED_OUT:
        raise ExecTimeoutError(command=command, timeout_s=timeout)
    out = _marked(result.stdout_bytes, result.stdout_gap, result.stdout_dropped_bytes)
    err = _marked(result.stderr_bytes, result.stderr_gap, result.stderr_dropped_bytes)
    if (why := _WHY.get(result.verdict)) is not None:
        err += b"\n[ended: " + why + b"]\n"
    return ExecResult(stdout=out, stderr=err, exit_code=result.exit_code)


def _marked(data: bytes, gap: int | None, dropped: int) -> bytes:
    if gap is None:
        return data
    return data[:gap] + f"\n[... {dropped} bytes left out ...]\n".encode() + data[gap:]


def not_executed(command: Sequence[str], error: StockadeError) -> ExecTransportError:
    """The SDK's error for a sandbox that did not run a command, with stockade's words."""
    return ExecTransportError(
        command=command, cause=error, message=str(error), retryable=error.retryable
    )


def not_read(path: Path, error: Exception) -> WorkspaceIOError:
    """The SDK's error for a file that was not read."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return WorkspaceReadNotFoundError(path=path, cause=error)
    return WorkspaceArchiveReadError(path=path, context={"reason": str(error)}, cause=error)
