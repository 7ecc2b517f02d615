"""A group of commands whose help shows each summary whole."""

from __future__ import annotations

import click

__all__ = ["Group"]

#: Longer than any summary: where one does not fit into a line, it goes on in the next.
_WHOLE = 1000


class Group(click.Group):
    """As click's; its groups below are of this kind, too."""

    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every command with its whole summary, which click would cut at the margin."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(_WHOLE)))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
