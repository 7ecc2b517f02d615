"""The entry point of the plug-in ``record``: ``stockade run --record FILE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.plugin import hookimpl

if TYPE_CHECKING:
    import click

STOCKADE_API_VERSION = 1


@hookimpl
def stockade_add_commands(group: click.Group) -> None:
    import click

    run = group.commands.get("run")
    if run is None:
        return
    option = click.Option(
        ["--record"],
        type=click.Path(dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_record,
        help="Record it in FILE, for -p replay:FILE.",
    )
    run.params.append(option)


def _record(context: click.Context, _: click.Parameter, path: str | None) -> None:
    """Record what this command executes, from now to its end."""
    if path is None or context.resilient_parsing:
        return
    import click

    from stockade_replay.recorder import record
    from stockade_replay.recording import RecordingError

    recording = record(path)
    try:
        recorder = recording.__enter__()
    except RecordingError as error:
        raise click.ClickException(str(error)) from error

    def end() -> None:
        recording.__exit__(None, None, None)
        if recorder.truncated:
            click.echo(
                f"stockade: {path} holds the output up to its limit, not all of it", err=True
            )

    context.call_on_close(end)
