"""The circumstances in which checks of isolation are run again (E12).

A wall may hold in the first execution of a session and not in the next one, which some
walls start on another way. So every check of E, and B4, is also run while another
execution goes on in each of its sessions, and in sessions that were attached to. The
check's body is the same: only the sessions that it is given differ.

    test_E1_no_new_privs_and_a_filter                      alone
    test_E12_overlapping_E1_no_new_privs_and_a_filter      beside another execution
    test_E12_attached_E1_no_new_privs_and_a_filter         after an attach
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockade.capabilities import Feature
from stockade.errors import StockadeError
from stockade.ledger._sqlite import SqliteLedger
from stockade.session import Session
from stockade.session._attaching import enter
from stockade.sessions._runtime import Runtime
from stockade.testing.clauses import clause_of
from stockade.testing.programs import sleep

if TYPE_CHECKING:
    from stockade.testing.interface import Suite

__all__ = ["ALONE", "CIRCUMSTANCES", "Circumstance", "alone_only", "original_of", "repeat"]

_REPEATED = "_stockade_repeats"
_ALONE_ONLY = "_stockade_alone_only"
#: The other execution outlives its check; it is ended with it.
_OTHER_SECONDS = 600.0

Check = Callable[..., None]


class Circumstance:
    """How the sessions of a check are made. This one: as any session, with nothing beside."""

    name = ""
    words = ""  #: what the failure of a check says of it
    #: Which sessions may be shared: those of circumstances with the same word.
    shares = ""

    @contextlib.contextmanager
    def session(self, suite: Suite, config: dict[str, Any]) -> Iterator[Session]:
        """A session of the check's own."""
        with self.open(suite, config) as opened, self.around(suite, opened):
            yield opened

    def open(self, suite: Suite, config: dict[str, Any]) -> Session:
        return suite.open_session(**config)

    @contextlib.contextmanager
    def around(self, suite: Suite, session: Session) -> Iterator[None]:
        """What goes on in a session while a check has it."""
        yield


class Overlapping(Circumstance):
    name = "overlapping"
    words = "in an execution that overlaps another"

    @contextlib.contextmanager
    def around(self, suite: Suite, session: Session) -> Iterator[None]:
        program = sleep(_OTHER_SECONDS, after="begun")
        other = suite.stream(session, program, timeout=suite.scaled(_OTHER_SECONDS))
        other.take()  # it runs from here on
        try:
            yield
        finally:
            # A check may have cost the session or that program, and says so itself.
            with contextlib.suppress(StockadeError):
                other.cancel()
                other.result(suite.scaled(20))


class Attached(Circumstance):
    name = "attached"
    words = "in a session that was attached to"
    shares = "attached"

    def open(self, suite: Suite, config: dict[str, Any]) -> Session:
        suite.need(Feature.DURABLE)
        provider = suite.make_provider(durable=True, **config)
        provider.config = suite.patient(provider.config)
        provider.runtime, _ = _with_a_ledger()
        record = provider.open_record("conformance")
        session = Session(provider, record)
        try:
            session.detach()
            return enter(provider, "conformance", record.session_id)
        except BaseException:
            session.close()
            raise


ALONE = Circumstance()
CIRCUMSTANCES: tuple[Circumstance, ...] = (Overlapping(), Attached())


@functools.cache
def _with_a_ledger() -> tuple[Runtime, tempfile.TemporaryDirectory[str]]:
    """A runtime for the whole process, and the folder of its ledger, which goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="stockade-conformance-")
    ledger = SqliteLedger(str(Path(folder.name, "ledger.sqlite")))
    return Runtime(discover_plugins=False, ledger=ledger), folder


# -- checks ------------------------------------------------------------------------


def alone_only(check: Check) -> Check:
    """Mark a check that executes nothing: there is nothing for it to overlap."""
    setattr(check, _ALONE_ONLY, True)
    return check


def repeat(cls: type[Suite]) -> None:
    """Give a class of checks each of its own that is about isolation once more for each
    circumstance."""
    for name, check in list(vars(cls).items()):
        if name.startswith("test_") and callable(check) and _is_repeated(name, check):
            for circumstance in CIRCUMSTANCES:
                repeated = _in(circumstance, name, check)
                setattr(cls, repeated.__name__, repeated)


def _is_repeated(name: str, check: Check) -> bool:
    clause = clause_of(name)
    about_isolation = clause.startswith("E") or clause == "B4"
    return about_isolation and not hasattr(check, _ALONE_ONLY) and not hasattr(check, _REPEATED)


def _in(circumstance: Circumstance, name: str, check: Check) -> Check:
    @functools.wraps(check)
    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        self.circumstance = circumstance
        check(self, *args, **kwargs)

    plain = name.removeprefix("test_")
    clause = clause_of(name)
    if clause.startswith("E"):
        run.__name__ = f"test_E12_{circumstance.name}_{plain}"
    else:
        run.__name__ = f"test_{clause}_{circumstance.name}_{plain.removeprefix(f'{clause}_')}"
    run.__qualname__ = run.__name__
    setattr(run, _REPEATED, name)
    return run


def original_of(check: Check) -> str:
    """The name of the check that this one runs in a circumstance; empty if it is none."""
    found: str = getattr(check, _REPEATED, "")
    return found
