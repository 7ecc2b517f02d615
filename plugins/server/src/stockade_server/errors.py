"""What is refused: one exception with a status, made of whatever was raised."""

from __future__ import annotations

import asyncio
import errno
import logging

from stockade import errors

__all__ = ["Refused", "has_ended", "not_served", "refusal", "was_not_found"]

_log = logging.getLogger("stockade.server")

#: HTTP's status to Connect's code.
_CODES = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    408: "deadline_exceeded",
    409: "already_exists",
    413: "resource_exhausted",
    415: "invalid_argument",
    429: "resource_exhausted",
    501: "unimplemented",
    502: "unavailable",
    503: "unavailable",
    504: "deadline_exceeded",
    507: "resource_exhausted",
}


class Refused(Exception):
    """An answer that is no success: HTTP's status, and words for the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def code(self) -> str:
        """Connect's word for it."""
        return _CODES.get(self.status, "internal")


def was_not_found(sandbox_id: str) -> Refused:
    """Of a sandbox that is gone or paused; the SDKs know these words and this status."""
    return Refused(502, f"The sandbox {sandbox_id:.64} was not found")


def has_ended() -> Refused:
    """Of a sandbox that ended while something ran in it."""
    return Refused(502, "The sandbox was killed or reached its end of life in the middle of this")


def not_served(what: str, instead: str) -> Refused:
    """Of what this server does not do."""
    return Refused(501, f"not served by stockade: {what}; {instead}")


def refusal(error: BaseException, sandbox_id: str = "") -> Refused:
    """What a caller learns of an error. What concerns the operator goes to the log alone."""
    if isinstance(error, Refused):
        return error
    for kinds, status in _STATUSES:
        if isinstance(error, kinds):
            return Refused(status, str(error))
    if isinstance(error, _GONE):
        return was_not_found(sandbox_id)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, "there is no space left in the sandbox")
    if isinstance(error, OSError) and not isinstance(error, errors.StockadeError):
        return Refused(400, error.strerror or "the sandbox's system refused it")
    _log.error("a request failed", exc_info=error)
    if isinstance(error, _OPERATORS):
        return Refused(503, "the sandbox cannot be started; the server's log says why")
    return Refused(500, "the server failed; its log says why")


_STATUSES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
    ((errors.UnsupportedError,), 501),
    ((errors.CapacityError,), 429),
    ((errors.PolicyRefusedError,), 403),
    ((errors.FileTooLargeError,), 413),
    (
        (
            errors.WorkingDirectoryError,
            errors.ConfigError,
            errors.LanguageError,
            errors.InputClosedError,
            errors.SpecialFileError,
        ),
        400,
    ),
    ((errors.ExecutionNotFoundError, errors.ExecutionEndedError), 404),
    ((FileNotFoundError,), 404),
    ((FileExistsError,), 409),
    ((NotADirectoryError, IsADirectoryError), 400),
    ((PermissionError,), 403),
    ((TimeoutError, asyncio.TimeoutError), 504),
)
_GONE = (errors.SessionNotFoundError, errors.SandboxLostError, errors.SessionStateError)
_OPERATORS = (
    errors.SandboxStartError,
    errors.ProviderUnavailableError,
    errors.ProviderNotFoundError,
    errors.PluginError,
    errors.PolicyError,
)
