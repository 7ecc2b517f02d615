"""``stockade providers`` and ``stockade plugins``: what is installed, and whether it works."""

from __future__ import annotations

import json
import sys

import attrs
import click

from stockade.cli.console import say, table

__all__ = ["plugins", "providers"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def providers(as_json: bool) -> None:
    """Show the installed providers: available or why not, broken ones too."""
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


@click.command()
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
