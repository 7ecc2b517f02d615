"""What walls give core of the programs that run in their sandboxes.

Authors import these names from :mod:`stockade.wall`.
"""

from __future__ import annotations

import abc

from stockade._exchange import Exit

__all__ = ["Running", "Terminal", "unwritten"]


def unwritten(wall: object, method: str, feature: str = "") -> NotImplementedError:
    """What a method raises that the wall's author must write."""
    instead = f", or leave the claim to {feature!r} out" if feature else ""
    return NotImplementedError(
        f"{type(wall).__name__} has no {method}(): write it{instead}, as stockade.wall says."
    )


class Running(abc.ABC):
    """One execution that was started."""

    @abc.abstractmethod
    def wait(self) -> Exit:
        """Block until the program itself has exited and its output is handed over.

        Called once, from one of core's threads. Returns when the program exits
        even if a child of it still holds its output open (D7). Raises
        SandboxLostError when the sandbox died (D14).
        """

    @abc.abstractmethod
    def kill(self) -> None:
        """End this execution's whole tree, at once, and nothing else (D6).

        Called from any thread, any number of times, also after the end; returns
        soon. ``wait`` then returns within a second.
        """

    def interrupt(self) -> None:
        """Interrupt a named interpreter's code (``notebook``); from any thread, at any time."""
        raise unwritten(self, "interrupt", "notebook")

    # What follows is called where the wall claims the capability of that name, from any thread,
    # while ``wait`` runs.

    def signal(self, number: int, *, group: bool) -> None:
        """Send a signal (Linux' number) to the program, or to its process group (``signals``).

        One that comes before the program does must not be lost. Raises ProcessLookupError
        if the program has ended.
        """
        raise unwritten(self, "signal", "signals")

    def write(self, data: bytes, seconds: float) -> int:
        """Take some of the bytes for the program's input (``live-input``); how many.

        Waits up to ``seconds`` for room, then takes none; holds a bounded amount (D17). Called
        by one thread at a time. If a program reads no more, it takes and drops the bytes.
        Raises ProcessLookupError if it has ended.
        """
        raise unwritten(self, "write", "live-input")

    def close_input(self) -> None:
        """End its input after what was taken (``live-input``); may be called again, and after
        the end."""
        raise unwritten(self, "close_input", "live-input")


class Terminal(abc.ABC):
    """A program's terminal. One thread of core's calls ``read``, any thread the rest."""

    @abc.abstractmethod
    def read(self) -> bytes:
        """What it shows next, waiting for it; empty when the program has ended, and after
        ``close``. Raises SandboxLostError when the sandbox died (D14)."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Type bytes into it; blocks while the program does not read them."""

    @abc.abstractmethod
    def resize(self, rows: int, columns: int) -> None:
        """Set the window's size, in characters; the program is notified (SIGWINCH)."""

    @abc.abstractmethod
    def exit_code(self) -> int:
        """The program's exit code, 128+n after signal n; called once ``read`` gave nothing."""

    @abc.abstractmethod
    def close(self) -> None:
        """Hang up and end the program's whole tree; from any thread, any number of times.

        Called by the caller, by core at the end of the session, and past a limit.
        """

    def ended(self) -> Exit:
        """How the program ended, once ``read`` gave nothing; by default its exit code alone."""
        return Exit(code=self.exit_code())

    def offer(self, data: bytes, seconds: float) -> int:
        """As :meth:`Running.write`; by default ``write``, which takes all."""
        self.write(data)
        return len(data)

    def signal(self, number: int, *, group: bool) -> None:
        """As :meth:`Running.signal` (``signals``)."""
        raise unwritten(self, "signal", "signals")
