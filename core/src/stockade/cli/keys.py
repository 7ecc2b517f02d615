"""Secrets that a command behind a wall may use, and what it asks of hosts, shown live (E11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import click

from stockade.cli.console import say
from stockade.cli.project import tables_of_secrets
from stockade.config import Secret
from stockade.errors import ConfigError
from stockade.events import Event, EventKind
from stockade.plugin import hookimpl
from stockade.values.options import nearest
from stockade.values.shown import shown

__all__ = ["SECRET_OPTIONS", "Trace", "secrets_of"]

#: Options of every command that opens a session.
SECRET_OPTIONS = (
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME=KIND:WHERE@HOST[,HOST…]",
        help="Let it use a secret at these hosts, unseen. KIND: env, file, command or keyring.",
    ),
    click.option(
        "--secrets",
        "secret_files",
        multiple=True,
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="The same, from [[tool.stockade.secrets]] in FILE.",
    ),
)


def secrets_of(words: Sequence[str], files: Sequence[str]) -> tuple[Secret, ...]:
    """What ``--secret`` and ``--secrets`` say. Raises ConfigError, OSError."""
    found = [Secret.parse(word) for word in words]
    for path in files:
        found += [_secret(path, table) for table in tables_of_secrets(path)]
    return tuple(found)


def _secret(path: str, table: dict[str, Any]) -> Secret:
    fields = [field.name for field in attrs.fields(Secret)]
    for key in table:
        if key not in fields:
            near = nearest(key, fields)
            raise ConfigError(f"{path}: a secret has no key {key!r}{near}.")
    given = dict(table)
    try:
        return Secret(given.pop("name", None), **given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


class Trace:
    """An observer that says on standard error what programs ask of hosts, as they do."""

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        """Called by core for each event."""
        if event.kind is not EventKind.REQUEST_ENDED:
            return
        secrets = f" with {', '.join(event.secrets)}" if event.secrets else ""
        status = "" if event.status is None else f" {event.status}"
        reason = f": {event.reason}" if event.reason else ""
        took = (event.duration_seconds or 0.0) * 1000
        say(
            f"stockade: {event.outcome}{status} {shown(event.method or '')} "
            f"{shown(event.host or '')}{secrets} in {took:.0f} ms{shown(reason)}",
            err=True,
        )
