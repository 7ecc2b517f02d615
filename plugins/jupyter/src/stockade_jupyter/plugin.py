"""What the ``stockade`` command finds: ``stockade jupyter``. Imports nothing of Jupyter's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.plugin import hookimpl

if TYPE_CHECKING:
    import click

__all__ = ["STOCKADE_API_VERSION", "stockade_add_commands"]

STOCKADE_API_VERSION = 1  #: of core's interface to plug-ins


@hookimpl
def stockade_add_commands(group: click.Group) -> None:
    """Called by the ``stockade`` command before it reads its arguments."""
    from stockade_jupyter.command import jupyter

    group.add_command(jupyter)
