"""``stockade man``: the manual, from the commands' own help."""

from __future__ import annotations

import click

from stockade.cli.console import say

__all__ = ["man"]


@click.command()
@click.pass_context
def man(context: click.Context) -> None:
    """Print the manual as a page for `man`.

    It has every command that is installed, those of plug-ins included. To keep it, write it to
    man1/stockade.1 in a folder that `manpath` names, such as ~/.local/share/man.
    """
    from stockade.cli.roff import page

    say(page(context.find_root().command).rstrip())
