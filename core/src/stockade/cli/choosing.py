"""How every command takes the provider: ``-p``, and no word without it (A7)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stockade.cli.console import say
from stockade.errors import ProviderStringError

if TYPE_CHECKING:
    from stockade.selection._spec import Preference
    from stockade.sessions._providers import WallProvider

__all__ = [
    "ProgramCommand",
    "WallCommand",
    "passed_over",
    "provider_option",
    "report_taken",
    "verbose_option",
    "wanted",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _walls(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """For the shell: the walls whose names begin so."""
    from stockade.selection._alternatives import LOCAL
    from stockade.selection._discovery import installed

    names = sorted({LOCAL, *(plugin.name for plugin in installed())})
    return [name for name in names if name.startswith(begun)]


def provider_option(command: _Command) -> _Command:
    """``-p``, which comes as ``provider``: what was written, for :func:`wanted`."""
    return click.option(
        "-p",
        "--provider",
        multiple=True,
        metavar="STRING",
        shell_complete=_walls,
        help="The wall: name[:target][?option=value&…]. Give it again to name the next choice. "
        "Default: STOCKADE_PROVIDER, else a project's file, else local.",
    )(command)


def verbose_option(command: _Command) -> _Command:
    """``-v``, which comes as ``verbose``, for :func:`report_taken`."""
    return click.option(
        "-v", "--verbose", is_flag=True, help="Say which wall it took, and why no other."
    )(command)


def wanted(given: Sequence[str]) -> Preference:
    """The preference of ``-p``, else of STOCKADE_PROVIDER, else of a project's file, else local.

    Raises ProviderStringError and ConfigError.
    """
    from stockade.cli import project
    from stockade.selection._spec import Preference
    from stockade.sessions._providers import default_preference

    if given:
        return Preference.parse(given, source="-p")
    if not os.environ.get("STOCKADE_PROVIDER"):
        try:
            here = Path.cwd()
        except FileNotFoundError:  # it was removed meanwhile: no file is in it
            return default_preference()
        found = project.find(here, lambda text: say(f"stockade: {text}", err=True))
        if found is not None:
            return found
    return default_preference()


def report_taken(provider: WallProvider, preference: Preference, verbose: bool) -> None:
    """Say on standard error what was passed over; with ``-v`` what was taken, too.

    Embedded walls that were passed over since ``local`` stands for several are reported with
    ``-v`` alone: nobody named them.
    """
    if verbose:
        taken = provider.name if provider.spec is None else provider.spec.label
        say(
            f"stockade: {taken} is taken (isolation: {provider.wall.isolation}); "
            f"{preference.label!r} is wanted by {preference.source}",
            err=True,
        )
    for one in provider.passed_over:
        if verbose or not one.embedded:
            say(f"stockade: passed over {one.provider}: {one.reason}", err=True)


def passed_over(provider: WallProvider) -> list[dict[str, str]]:
    """The same for programs."""
    return [{"name": one.provider, "reason": one.reason} for one in provider.passed_over]


class WallCommand(click.Command):
    """A command that takes no words: a provider among them is refused with the right line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            raise click.UsageError(
                f"{_shown(ctx.args[0])!r} stands where nothing belongs; for a provider write: "
                f"{ctx.command_path} {self.right(ctx.args)}",
                ctx,
            )
        return ctx.args

    def right(self, words: Sequence[str]) -> str:
        """The options and words to type instead."""
        return " ".join(f"-p {shlex.quote(_shown(word))}" for word in words)


class ProgramCommand(click.Command):
    """A command whose words are a program, from the first one on; the program's options are
    its own. A provider in its place is refused with the right line, unless ``--`` stands
    directly before it."""

    allow_interspersed_args = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        words: tuple[str, ...] = ctx.params.get("command") or ()
        before = given[len(given) - len(words) - 1 : len(given) - len(words)]
        if words and before != ["--"] and not ctx.resilient_parsing and _is_provider(words):
            raise click.UsageError(
                f"{_shown(words[0])!r} is a provider, and a program belongs there; write: "
                f"{ctx.command_path} {self.right(words)} (a program of that name: after --)",
                ctx,
            )
        return rest

    def right(self, words: Sequence[str]) -> str:
        """The options and words to type instead."""
        program = [word for word in words[1:2] if word != "--"] + list(words[2:])
        line = f"-p {shlex.quote(_shown(words[0]))}"
        return f"{line} -- {shlex.join(program)}" if program else line


def _is_provider(words: Sequence[str]) -> bool:
    """Whether the first of these names a wall: an installed or published one, or any that is
    written as a provider is and has ``--`` behind it."""
    from stockade.selection._alternatives import LOCAL
    from stockade.selection._discovery import PUBLISHED, installed
    from stockade.selection._spec import Preference

    try:
        specs = Preference.parse(words[0]).alternatives
    except ProviderStringError:
        return False
    if any(mark in words[0] for mark in ":?|") and list(words[1:2]) == ["--"]:
        return True
    known = {LOCAL, *PUBLISHED, *(plugin.name for plugin in installed())}
    return specs[0].name in known


def _shown(word: str) -> str:
    """A word without the options of a provider: a value may be a secret (B4)."""
    head, question, _ = word.partition("?")
    return f"{head}?…" if question else head
