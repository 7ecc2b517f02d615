"""The help of every command: whole at 80 columns, with an example, and the same in the manual."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stockade.cli import roff
from stockade.cli.app import app
from stockade.cli.commands.run import run
from stockade.cli.examples import EXAMPLES, examples_of
from stockade.cli.work import _LIMITS
from stockade.config import SandboxConfig

_ENV = {
    **os.environ,
    "COLUMNS": "80",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


@functools.cache
def every() -> dict[str, tuple[click.Command, click.Context]]:
    """Every command that is installed, by its words."""
    context = click.Context(app, info_name="stockade", terminal_width=80)
    return {inner.command_path: (one, inner) for one, inner in roff.commands(app, context)}


def core() -> Iterator[str]:
    for words in EXAMPLES:
        yield f"stockade {words}".strip()


def helped(words: str) -> str:
    command, context = every()[words]
    return command.get_help(context)


def test_each_command_of_core_has_examples() -> None:
    own = {
        words
        for words, (command, _) in every().items()
        if command.callback is None or command.callback.__module__.startswith("stockade.cli")
    }
    assert own == set(core())
    for words in every():
        command, _ = every()[words]
        if words != "stockade serve key":  # its one command has them
            assert examples_of(command) or words == "stockade jupyter", words


@pytest.mark.parametrize("words", [*every()])
def test_nothing_is_cut_at_80_columns(words: str) -> None:
    shown = helped(words)
    assert max(map(len, shown.splitlines())) <= 80
    body = shown.partition("\n")[2]
    assert "..." not in body, body
    for one in examples_of(every()[words][0]):
        assert f"    {one}\n" in f"{shown}\n"


def test_the_command_itself_prints_it_so() -> None:
    done = subprocess.run(
        ["stockade", "--help"], env=_ENV, capture_output=True, text=True, check=True
    )
    body = done.stdout.partition("\n")[2]
    assert "..." not in body and max(map(len, body.splitlines())) <= 80
    assert "  gc           Remove sessions without a living owner" in body


@pytest.mark.parametrize("words", [*every()])
def test_each_option_says_what_it_does_and_numbers_are_plain(words: str) -> None:
    command, context = every()[words]
    assert command.get_short_help_str(1000).endswith(".")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert record is not None
            assert record[1], f"{words} {parameter.opts[0]}"
            assert not re.search(r"(?<![\d.])\d+\.0\b(?!\.)|<=|INTEGER|FLOAT", "".join(record)), (
                record
            )


@pytest.mark.parametrize(("name", "field"), [*_LIMITS.items(), ("timeout", "timeout_seconds")])
def test_a_default_in_the_help_is_the_configuration_s(name: str, field: str) -> None:
    (option,) = (one for one in run.params if one.name == name)
    assert isinstance(option, click.Option) and option.help is not None
    assert option.help.endswith(f"  [default: {getattr(SandboxConfig(), field):g}]")


def test_a_summary_that_is_long_goes_on_in_the_next_line() -> None:
    from stockade.cli.groups import Group

    group = Group("some")
    group.add_command(click.Command("one", help="Words " * 20 + "end."))
    shown = group.get_help(click.Context(group, info_name="some", terminal_width=80))
    assert " ".join(shown.split()).endswith("Words " * 20 + "end.")


# -- the manual --------------------------------------------------------------------------------


def test_the_manual_has_every_command_and_option() -> None:
    page = roff.page(app)
    assert page.isascii() and page.startswith(".TH STOCKADE 1 ")
    for words, (command, context) in every().items():
        if words != "stockade":
            assert f"\n.SS {words}\n".replace("-", "\\-") in page
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1].replace("-", "\\-") in page


def test_what_would_be_a_request_is_text() -> None:
    assert roff._text(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert roff._text("'a\\b-c…") == "\\(aqa\\eb\\-c\\[u2026]"


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff is installed")
def test_the_manual_shows_without_warnings() -> None:
    made = subprocess.run(["stockade", "man"], env=_ENV, capture_output=True, check=True)
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8"], input=made.stdout, capture_output=True, check=True
    )
    assert done.stderr == b""
    shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout.decode())
    assert "stockade run -- python3 -c 'print(6*7)'" in shown
    assert "Usage" not in shown


# -- completion ----------------------------------------------------------------------------------

_COMPLETE = """
eval "$(_STOCKADE_COMPLETE=bash_source stockade)"
for last; do :; done
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_stockade_completion stockade "$last"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["se"], "session"),
        (["run", "--mem"], "--memory"),
        (["run", "-p", "loc"], "local"),
        (["session", ""], "create"),
    ],
)
def test_bash_completes(words: list[str], offered: str) -> None:
    done = subprocess.run(
        ["bash", "-c", _COMPLETE, "bash", "stockade", *words],
        env=_ENV,
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered in done.stdout.split(), done
