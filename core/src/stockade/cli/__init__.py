"""The command line (extra ``cli``)."""

from __future__ import annotations

import signal
import sys

from stockade.system.installing import install

__all__ = ["main"]


def main() -> None:
    """The ``stockade`` command; without its extra it says which one to install."""
    _listen_to_children()
    try:
        from stockade.cli.app import app
        from stockade.sessions._configuring import end_on_sigterm
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(
            f"stockade: the command line needs {error.name}; run: {install('stockade', 'cli')}\n"
        )
        sys.exit(2)
    end_on_sigterm()
    app(prog_name="stockade")


def _listen_to_children() -> None:
    """The parent of the command may ignore SIGCHLD, which is inherited. Then no program of
    the command would report how it ended."""
    number = getattr(signal, "SIGCHLD", None)
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
