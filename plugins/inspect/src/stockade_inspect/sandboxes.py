"""Choosing a wall that can serve inspect, and the sessions that this process has open."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import attrs
from inspect_ai._util.error import PrerequisiteError

import stockade
from stockade.errors import ConfigError, ProviderStringError, StockadeError
from stockade.session import Session
from stockade_inspect.images import built
from stockade_inspect.wanted import Wanted

__all__ = ["AGENT", "checked", "close", "close_all", "opened"]

_log = logging.getLogger(__name__)

#: The agent whose sessions are, in listings and for policies.
AGENT = "inspect"
#: What inspect and its tools cannot do without: programs, files, a server that outlives the
#: call that started it.
_NEEDS = ("argv", "files", "background")
#: What its usual tools call.
_PROGRAMS = {"bash": "the tools bash and bash_session", "python3": "the tool python"}
_open: dict[str, Session] = {}
_said: set[str] = set()


def opened(wanted: Wanted, labels: Mapping[str, str]) -> Session:
    """A session; blocking. Raises StockadeError."""
    asked = built(wanted)
    session = stockade.open(
        asked.preference, agent_id=AGENT, needs=_NEEDS, labels=labels, **asked.fields
    )
    _open[session.session_id] = session
    return session


def close(session: Session) -> None:
    """End one; blocking. What fails at that is logged, and left for ``stockade gc``."""
    try:
        session.close()
    except StockadeError as error:
        _log.warning("session %s did not end: %s", session.session_id, error)
    _open.pop(session.session_id, None)


def close_all(keep: bool) -> list[str]:
    """End those that are left, or with ``keep`` let the durable ones go on; their ids."""
    kept = []
    for session in list(_open.values()):
        if keep and session.provider.config.durable:
            _open.pop(session.session_id).detach()
            kept.append(session.session_id)
        else:
            close(session)
    return kept


def checked(wanted: Wanted) -> None:
    """Open one of these to see that its wall can serve, and end it; blocking.

    Raises PrerequisiteError that names the provider strings that can where this one cannot.
    """
    for note in wanted.notes:
        _say(note)
    try:
        session = opened(wanted, {"inspect": "check"})
    except StockadeError as error:
        wrong = isinstance(error, (ConfigError, ProviderStringError))  # behind every wall
        raise PrerequisiteError(f"stockade: {error}{'' if wrong else _able(wanted)}") from error
    try:
        for passed in session.provider.passed_over:
            if not passed.embedded:
                _say(f"stockade passed over {passed.provider}: {passed.reason}")
        missing = [name for name in _PROGRAMS if not _has(session, name)]
    finally:
        close(session)
    for name in missing:
        _say(f"{session.provider.name} has no {name} inside: {_PROGRAMS[name]} will fail there.")


def _has(session: Session, program: str) -> bool:
    return session.run(["sh", "-c", f"command -v {program}"], timeout=60).success


def _able(wanted: Wanted) -> str:
    """The provider strings that are here and hold what is asked, for the end of a message."""
    options = wanted.provider.partition("|")[0].partition("?")[2].strip()
    image = wanted.image or ("IMAGE" if wanted.build else None)
    asked = attrs.evolve(wanted, build=None, image=image)
    able = []
    for one in stockade.inspect_providers():
        if not one.available or one.isolation in (None, "none"):
            continue
        trial = attrs.evolve(asked, provider=f"{one.name}?{options}" if options else one.name)
        try:
            text = trial.preference
            stockade.provider(text, needs=_NEEDS, **trial.fields)
        except StockadeError:
            continue
        able.append(text.partition("?")[0])
    return f" Here these can: {', '.join(able) or 'none'}."


def _say(text: str) -> None:
    """Once in a process: every sample would say it again."""
    if text not in _said:
        _said.add(text)
        _log.warning("%s", text)
