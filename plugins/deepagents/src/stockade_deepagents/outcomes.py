"""What deepagents is given of a result, and of what a file call raised."""

from __future__ import annotations

from deepagents.backends.protocol import ExecuteResponse

from stockade import SandboxResult, Verdict

__all__ = ["file_error", "response"]

#: As the framework's own backends report a deadline that passed.
_LATE = 124
_WHY = {
    Verdict.OUT_OF_MEMORY: "ended: it used more memory than the sandbox allows (memory_mb)",
    Verdict.CANCELLED: "ended: the sandbox was closed while it ran",
}
_ERRORS = {
    FileNotFoundError: "file_not_found",
    NotADirectoryError: "file_not_found",
    IsADirectoryError: "is_directory",
    PermissionError: "permission_denied",
}


def response(result: SandboxResult, timeout: float | None) -> ExecuteResponse:
    """The merged output, marked where bytes are missing, and how the command ended."""
    data, gap = result.stdout_bytes, result.stdout_gap
    if gap is not None:
        mark = f"\n[... {result.stdout_dropped_bytes} bytes left out ...]\n".encode()
        data = data[:gap] + mark + data[gap:]
    text, code = data.decode("utf-8", "replace"), result.exit_code
    why = _WHY.get(result.verdict)
    if result.verdict is Verdict.TIMED_OUT:
        why, code = f"timed out after {timeout:g} seconds; all that it started was ended", _LATE
    if why is not None:
        text += f"{'' if not text or text.endswith(chr(10)) else chr(10)}[{why}]"
    return ExecuteResponse(output=text, exit_code=code, truncated=result.stdout_truncated)


def file_error(error: OSError | ValueError) -> str:
    """The framework's word for it, else the error's own."""
    if not isinstance(error, OSError):
        return "invalid_path"
    known = [word for kind, word in _ERRORS.items() if isinstance(error, kind)]
    return known[0] if known else str(error)
