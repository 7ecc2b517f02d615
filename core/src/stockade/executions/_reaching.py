"""What callers do with an execution while it runs: signals, input, readers (D17, D18)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stockade.capabilities import Feature
from stockade.errors import ConfigError
from stockade.values.signals import SignalLike, signal_number

if TYPE_CHECKING:
    from stockade.capabilities import Capabilities
    from stockade.executions._home import Home
    from stockade.executions._output import BoundedOutput, OutputReader
    from stockade.executions._program import Program

__all__ = ["Reachable", "as_bytes"]


def as_bytes(field: str, data: object) -> bytes:
    """Input as bytes, text encoded as UTF-8. Raises ConfigError."""
    if isinstance(data, str):
        try:
            return data.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{field} is text that UTF-8 cannot encode ({error.reason}); give bytes."
            ) from None
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ConfigError(f"{field} is bytes or text, not {type(data).__name__}.")
    return bytes(data)


class Reachable:
    """The part of an execution that reaches its program and its output."""

    def __init__(
        self, home: Home, program: Program, output: BoundedOutput, have: Capabilities
    ) -> None:
        self._home = home
        self._program = program
        self._output = output
        self._have = have

    def signal(self, number: SignalLike, *, group: bool = False) -> None:
        """Send the program a signal, by number (Linux') or name; with ``group`` all of its
        process group (D18). What it does then is its own; ``cancel`` ends it with its tree.

        A program that is just being started is waited for. Raises ConfigError,
        ExecutionEndedError, UnsupportedError, and TimeoutError if it does not begin.
        """
        self._home.here()
        n = signal_number(number)
        self._have.require(Feature.SIGNALS, self._home.provider, "cancel() ends the execution.")
        self._program.signal(n, group=group)

    def write(self, data: bytes | str) -> None:
        """Write to its standard input, which ``stdin=stockade.PIPE`` left open (D17); text is
        encoded as UTF-8. Waits while the program does not read, so that memory is bounded.

        Threads may write at once: what one call writes stays together. What the program never
        reads is lost. Raises InputClosedError, ExecutionEndedError.
        """
        self.write_unless(data, lambda: False)

    def write_unless(self, data: bytes | str, cancelled: Callable[[], bool]) -> None:
        """As ``write``; ``cancelled`` is asked now and then. For the awaitable face. Raises
        CancelledError, too."""
        self._home.here()
        self._program.write(as_bytes("data", data), cancelled)

    def close_stdin(self) -> None:
        """End its standard input, after what was written; may be called again. Raises
        InputClosedError if it never was open."""
        self._home.here()
        self._program.close_input()

    def follow(self, offset: int | None = 0) -> OutputReader:
        """Read its output beside others: from an offset on, or with None what comes from now
        on (D18). Any number may, whenever; each piece's ``offset`` and ``end`` say where it is
        in the output of both streams, in the order in which it came.

        The last ``output_limit_bytes`` are there to be read; nobody is held back by such a
        reader, and what it missed is counted in the next piece's ``dropped``. Raises
        ConfigError.

            for chunk in session.execution(execution_id).follow():
                print(chunk.offset, chunk.text)
        """
        self._home.here()
        if offset is not None and (type(offset) is not int or offset < 0):
            raise ConfigError(f"offset={offset!r} is not allowed: a whole number from 0, or None.")
        return self._output.join(offset)
