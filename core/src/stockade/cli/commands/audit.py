"""``stockade audit``: the log of events, checked."""

from __future__ import annotations

import sys

import click

from stockade.cli.console import counted, failed, say
from stockade.cli.groups import Group
from stockade.errors import AuditError

__all__ = ["audit"]


@click.group(cls=Group)
def audit() -> None:
    """Check the audit log that `run --audit FILE` writes."""


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--head", metavar="HASH", help="The head an earlier check printed: it must be there.")
def verify(file: str, head: str | None) -> None:
    """Check that no line of FILE was changed, removed or put in."""
    from stockade.policies.audit import verify as check

    try:
        checked = check(file, head=head)
    except AuditError as error:
        failed(error)
        sys.exit(1)
    say(f"{counted(checked.lines, 'line')}, the chain holds; head {checked.head}")
