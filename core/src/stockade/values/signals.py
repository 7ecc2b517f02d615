"""Signals by number and by name, as the programs inside have them: Linux' numbers, wherever
this process runs."""

from __future__ import annotations

import signal as signals
from enum import Enum

from stockade.errors import ConfigError
from stockade.values.options import nearest

__all__ = ["SignalLike", "signal_number"]

#: A number, a name with or without ``SIG``, or a member of ``signal.Signals``.
SignalLike = int | str | signals.Signals

_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
_NUMBERS = {f"SIG{name}": number for number, name in enumerate(_NAMES.split(), 1)}
_LAST = 64
#: A C library keeps these for itself.
_RESERVED = (32, 33)


def signal_number(value: object) -> int:
    """The number inside of what a caller gives. Raises ConfigError."""
    if isinstance(value, Enum):  # this system's number may be another one
        value = value.name
    if isinstance(value, str):
        name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        if name not in _NUMBERS:
            raise ConfigError(
                f"{value!r} is no signal{nearest(name, list(_NUMBERS))}; give a name such as "
                "'SIGTERM', or a number."
            )
        return _NUMBERS[name]
    if type(value) is not int or not 1 <= value <= _LAST or value in _RESERVED:
        raise ConfigError(
            f"signal {value!r} is not allowed: a number from 1 to {_LAST} that no C library "
            "keeps for itself, or a name such as 'SIGTERM'."
        )
    return value
