"""The commands, and the small ones among them."""

from __future__ import annotations

import json
import sys

import attrs
import click

import stockade
from stockade.cli.commands.collect import gc
from stockade.cli.commands.conformance import conformance
from stockade.cli.commands.diff import diff
from stockade.cli.commands.doctor import doctor
from stockade.cli.commands.new_plugin import new_plugin
from stockade.cli.commands.run import run
from stockade.cli.commands.session import session
from stockade.cli.commands.shell import shell
from stockade.cli.commands.top import top
from stockade.cli.console import failed, say, table, traceback_option
from stockade.errors import AuditError

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(stockade.__version__, prog_name="stockade")
@traceback_option
def app() -> None:
    """Run code that you don't trust, behind any wall.

    \b
      stockade run -- python3 -c 'print(6*7)'
      stockade run -p docker:python:3.12-slim --memory 256 -- make test
      stockade providers
      stockade doctor --probe landlock
      stockade conformance landlock
      stockade diff landlock docker:python:3.12-slim -- python3 -V
      stockade new-plugin mywall
    """


@app.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def providers(as_json: bool) -> None:
    """Show the installed providers: available or why not, broken ones too."""
    from stockade.selection._providers import inspect_providers

    found = inspect_providers()
    if as_json:
        rows = [
            {
                "name": info.name,
                "distribution": info.distribution,
                "version": info.version,
                "isolation": info.isolation,
                "summary": info.summary,
                "available": info.available,
                "broken": info.broken,
                "reason": info.reason,
            }
            for info in found
        ]
        say(json.dumps(rows, indent=2))
        return
    if not found:
        say("No provider is installed; try: pip install stockade-landlock")
        return
    rows_text = [
        (
            info.name,
            info.distribution,
            info.version,
            info.isolation or "-",
            "yes" if info.available else f"{'broken' if info.broken else 'no'}: {info.reason}",
        )
        for info in found
    ]
    table(("name", "distribution", "version", "isolation", "available"), rows_text)


@app.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def plugins(as_json: bool) -> None:
    """Show every installed plug-in: its hooks, and whether it is broken or blocked, and why.

    STOCKADE_DISABLED_PLUGINS blocks those that it names, separated by commas: by the entry
    point, by the distribution, or by both as DISTRIBUTION:NAME. Exits with 1 when one is broken.
    """
    from stockade.policies._listing import inspect_plugins

    found = inspect_plugins()
    if as_json:
        say(json.dumps([attrs.asdict(info) for info in found], indent=2))
    else:
        table(
            ("group", "name", "distribution", "version", "hooks", "state"),
            [
                (
                    info.group,
                    info.name,
                    info.distribution,
                    info.version,
                    " ".join(info.hooks) or "-",
                    f"broken: {info.reason}"
                    if info.broken
                    else f"blocked: {info.reason}"
                    if info.blocked
                    else "ok",
                )
                for info in found
            ],
        )
    sys.exit(1 if any(info.broken for info in found) else 0)


@app.group()
def audit() -> None:
    """The audit log that `run --audit FILE` and stockade.AuditLog write."""


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
    say(f"{checked.lines} lines, the chain holds; head {checked.head}")


app.add_command(conformance)
app.add_command(run)
app.add_command(diff)
app.add_command(doctor)
app.add_command(new_plugin)
app.add_command(shell)
app.add_command(session)
app.add_command(top)
app.add_command(gc)
