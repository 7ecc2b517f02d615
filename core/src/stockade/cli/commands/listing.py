"""``stockade providers`` and ``stockade plugins``: what is installed, and whether it works."""

from __future__ import annotations

import json
import sys

import attrs
import click

from stockade.cli.console import say, table
from stockade.system.installing import install

__all__ = ["plugins", "providers"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def providers(as_json: bool) -> None:
    """List the installed walls, and whether each can be used.

    One that cannot be used is listed with the reason.
    """
    from stockade.sessions._providers import inspect_providers

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
        say(f"No provider is installed; try: {install('stockade-landlock')}")
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


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def plugins(as_json: bool) -> None:
    """List the installed plug-ins, their hooks, and what is broken.

    STOCKADE_DISABLED_PLUGINS blocks plug-ins. It holds names separated by commas, each the name
    of an entry point, of a distribution, or both as DISTRIBUTION:NAME. The exit code is 1 if a
    plug-in is broken.
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
