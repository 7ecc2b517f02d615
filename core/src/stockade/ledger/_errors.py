"""What the ledger's file can fail at, in words with what to do about it."""

from __future__ import annotations

import sqlite3

from stockade.errors import LedgerError

__all__ = ["AWAY", "busy", "damaged", "explained", "hopeless", "kept"]

#: What to do with a file that cannot be read.
AWAY = (
    "Move it away (with its -wal and -shm files) and go on without it: `stockade gc` still finds "
    "what walls list."
)


def kept(text: str) -> str:
    """A text as SQLite can keep it: what is no Unicode (half a pair, such as a file's name
    that is no UTF-8 brings along) as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def hopeless(error: LedgerError) -> bool:
    """Whether what was to be written is at fault, so that trying again is of no use."""
    return isinstance(error.__cause__, (UnicodeError, OverflowError))


def damaged(path: str, what: str) -> LedgerError:
    """The file is there, and what is in it is not as it should be."""
    return LedgerError(f"the ledger {path!r} is damaged ({what}); it was left as it is. {AWAY}")


def busy(path: str, waited: float) -> LedgerError:
    """Another process held it for too long, in seconds."""
    return LedgerError(
        f"the ledger {path!r} was held by another process for {waited:g} s; try again, or see "
        f"who holds it: fuser {path}",
        retryable=True,
    )


def explained(path: str, error: sqlite3.Error, waited: float) -> LedgerError:
    """What SQLite says, with what to do about it; ``waited`` in seconds."""
    words = str(error)
    low = words.lower()
    if "locked" in low or "busy" in low:
        return busy(path, waited)
    if "full" in low:
        return LedgerError(
            f"there is no room for the ledger {path!r}: {words}; free some and try again.",
            retryable=True,
        )
    if "readonly" in low or "unable to open" in low or "permission" in low:
        return LedgerError(
            f"the ledger {path!r} cannot be written: {words}; name a place that this user may "
            "write by STOCKADE_LEDGER."
        )
    if "disk i/o" in low:
        return LedgerError(
            f"the ledger {path!r} could not be read or written: {words}; look at its disk, then "
            "try again.",
            retryable=True,
        )
    return damaged(path, words)
