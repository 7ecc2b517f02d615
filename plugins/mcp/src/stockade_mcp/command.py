"""``stockade-mcp``: the server on standard input and output, or on HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import click

import stockade
from stockade.cli.choosing import WallCommand, provider_option, report_taken, wanted
from stockade.cli.console import say
from stockade.cli.work import Work, work_options
from stockade.errors import ConfigError, StockadeError
from stockade_mcp.client import Behind, Client
from stockade_mcp.tools import make_server
from stockade_mcp.web import check_place, keys_of, make_app

__all__ = ["main"]


@click.command(cls=WallCommand)
@provider_option
@click.option("--agent", default="mcp", show_default=True, help="Who runs it, for policies.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Of one call, at most.")
@click.option(
    "--output-limit",
    type=click.IntRange(1000, 1 << 20),
    default=30_000,
    show_default=True,
    metavar="BYTES",
    help="Of each text that a model is shown.",
)
@click.option("--http", metavar="HOST:PORT", help="Serve streamable HTTP, at /mcp there.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Keys that let in over HTTP, one a line.  [default: STOCKADE_MCP_KEY]",
)
@click.option("--insecure", is_flag=True, help="HTTP without a key, on loopback alone.")
@click.option(
    "--clients", type=click.IntRange(1), default=16, show_default=True, help="At once, over HTTP."
)
@click.option(
    "--idle",
    type=click.FloatRange(1),
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="A silent client's sandbox ends then, over HTTP.",
)
@work_options
@click.version_option(stockade.__version__, prog_name="stockade-mcp")
def main(**options: Any) -> None:
    """Serve MCP clients a sandbox each, behind the wall that -p names.

    \b
      stockade-mcp --mount .:rw --memory 2048
      stockade-mcp -p docker:python:3.12-slim --allow pypi.org
      STOCKADE_MCP_KEY=… stockade-mcp --http 127.0.0.1:8765
    """
    stockade.end_on_sigterm()
    try:
        behind = _behind(options)
        if options["http"] is None:
            asyncio.run(_serve_stdio(behind))
        else:
            _serve_http(behind, options)
    except KeyboardInterrupt:
        sys.exit(130)
    except (StockadeError, OSError) as error:
        say(f"stockade-mcp: {error}", err=True)
        sys.exit(2)


# `--get` copies out what one command made; here there is none, and clients read files.
main.params = [parameter for parameter in main.params if parameter.name != "gets"]


def _behind(options: dict[str, Any]) -> Behind:
    """What was asked for. Raises what choosing a provider raises, so before any client comes."""
    work = Work.of({**options, "gets": ()})
    fields = work.fields()
    if options["timeout"] is not None:
        fields["timeout_seconds"] = options["timeout"]
    preference = wanted(options["provider"])
    stockade.provider(preference, **fields)

    def bring(session: stockade.Session) -> None:
        report_taken(session.provider, preference, verbose=True)
        work.bring(session)

    return Behind(
        preference=preference,
        fields=fields,
        start=work.start(),
        bring=bring,
        agent=options["agent"],
        text_bytes=options["output_limit"],
    )


async def _serve_stdio(behind: Behind) -> None:
    client = Client(behind)
    try:
        await make_server(lambda _: client, behind).run_stdio_async()
    finally:
        await client.close()


def _serve_http(behind: Behind, options: dict[str, Any]) -> None:
    import uvicorn

    host, _, port = options["http"].rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"--http {options['http']}: write HOST:PORT, with a port to 65535.")
    path = options["key_file"]
    text = Path(path).read_text() if path else os.environ.get("STOCKADE_MCP_KEY", "")
    keys = keys_of(text)
    check_place(host, keys, options["insecure"])
    app = make_app(
        behind,
        keys=keys,
        insecure=options["insecure"],
        host=host,
        most_clients=options["clients"],
        idle_seconds=options["idle"],
    )
    say(f"stockade-mcp: http://{options['http']}/mcp", err=True)
    uvicorn.run(app, host=host, port=int(port), log_level="warning", timeout_graceful_shutdown=5)
