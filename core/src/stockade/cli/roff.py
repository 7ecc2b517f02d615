"""The manual: the help of every command as one page for ``man``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

import stockade
from stockade.cli.examples import examples_of

__all__ = ["commands", "page"]

#: What would be a request at the beginning of a line, or is one of roff's own characters.
_ESCAPED = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}

_WIDTH = {"terminal_width": 80}


def page(app: click.Command) -> str:
    """The page, in ASCII: what stockade is, its options, each command with its own."""
    context = click.Context(app, info_name="stockade", **{**app.context_settings, **_WIDTH})
    summary = app.get_short_help_str(1000).rstrip(".")
    lines = [
        f'.TH STOCKADE 1 "" "stockade {_text(stockade.__version__)}" "User Commands"',
        ".SH NAME",
        f"stockade \\- {_text(summary[:1].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        *_synopsis(app, context),
        ".SH DESCRIPTION",
        *_paragraphs(app),
        ".SH OPTIONS",
        *_options(app, context),
        ".SH COMMANDS",
    ]
    for command, inner in commands(app, context):
        if command is not app:
            lines += [f".SS {_text(inner.command_path)}", *_synopsis(command, inner)]
            lines += [*_paragraphs(command), *_options(command, inner), *_examples(command)]
    lines += [".SH EXAMPLES", *_block(examples_of(app))]
    return "\n".join(lines) + "\n"


def commands(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all below it, each with the context that its help needs; no hidden ones."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                inner = click.Context(below, info_name=name, parent=context)
                yield from commands(below, inner)


def _synopsis(command: click.Command, context: click.Context) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    return [".PP", f"\\fB{_text(context.command_path)}\\fR {_text(pieces)}"]


def _paragraphs(command: click.Command) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            yield from _block(paragraph.splitlines()[1:])
        elif paragraph:
            yield ".PP"
            yield _text(" ".join(paragraph.split()))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # an argument says nothing beside its name
            names, said = record
            yield ".TP"
            yield f"\\fB{_text(names)}\\fR"
            yield _text(" ".join(said.split()))


def _examples(command: click.Command) -> Iterator[str]:
    lines = examples_of(command)
    if lines:
        yield ".PP"
        yield "Examples:"
        yield from _block(lines)


def _block(lines: Iterator[str] | tuple[str, ...] | list[str]) -> Iterator[str]:
    """Lines as they stand."""
    yield from (".PP", ".nf", ".RS")
    yield from (_text(line.strip()) for line in lines)
    yield from (".RE", ".fi")


def _text(text: str) -> str:
    """Text that roff shows as it is: no request, no escape, nothing beyond ASCII."""
    out = "".join(
        _ESCAPED.get(char, char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text
    )
    return f"\\&{out}" if out.startswith(".") else out
