"""The command line: a group whose commands are added through a hook, core's own among them."""

from __future__ import annotations

import click

import stockade
from stockade.cli.commands.audit import audit
from stockade.cli.commands.collect import gc
from stockade.cli.commands.conformance import conformance
from stockade.cli.commands.diff import diff
from stockade.cli.commands.doctor import doctor
from stockade.cli.commands.listing import plugins, providers
from stockade.cli.commands.manual import man
from stockade.cli.commands.new_plugin import new_plugin
from stockade.cli.commands.run import run
from stockade.cli.commands.session import session
from stockade.cli.commands.shell import shell
from stockade.cli.commands.top import top
from stockade.cli.console import traceback_option
from stockade.cli.examples import add_examples
from stockade.cli.groups import Group
from stockade.plugin import hookimpl
from stockade.policies._hooks import default_hooks

__all__ = ["app"]

_COMMANDS = (
    run,
    providers,
    plugins,
    doctor,
    conformance,
    diff,
    new_plugin,
    shell,
    session,
    top,
    gc,
    audit,
    man,
)


class OwnCommands:
    """Core's own implementation of the hook: a plug-in finds them there, and may add options."""

    @hookimpl(tryfirst=True)
    def stockade_add_commands(self, group: click.Group) -> None:
        for command in _COMMANDS:
            group.add_command(command)
        add_examples(group)


class _Group(Group):
    """Filled when a command is first looked for: importing this module imports no plug-in."""

    _full = False

    def _fill(self) -> None:
        if self._full:
            return
        self._full = True  # first: a plug-in may look at the commands that are there
        hooks = default_hooks()
        hooks.add(OwnCommands(), "stockade.cli")
        # What is broken refuses sessions; `plugins` and `doctor` say of it why.
        hooks.load_what_can_be()
        hooks.add_commands(self)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        self._fill()
        return super().get_command(context, name)

    def list_commands(self, context: click.Context) -> list[str]:
        self._fill()
        return super().list_commands(context)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(stockade.__version__, prog_name="stockade")
@traceback_option
def app() -> None:
    """Run code that you don't trust, behind any wall.

    Each command says more of itself: `stockade run --help`.
    """
