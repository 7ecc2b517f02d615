"""``stockade session``: durable sessions, from one command to the next."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from stockade.cli.choosing import (
    WallCommand,
    provider_option,
    report_taken,
    verbose_option,
    wanted,
)
from stockade.cli.console import failed, say, table, traced
from stockade.cli.feed import feed
from stockade.cli.groups import Group
from stockade.cli.work import environment
from stockade.errors import SandboxLostError, SessionStateError, StockadeError

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["session"]

_FAILED = 125
_AGENT = click.option(
    "--agent", default="default", show_default=True, help="The agent that it belongs to."
)


def _ids(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """For the shell: the sessions whose ids begin so."""
    import stockade
    from stockade.ledger._overview import overview

    try:
        found = overview(stockade.default_runtime().ledger)
    except StockadeError:
        return []
    return [entry.session_id for entry in found if entry.session_id.startswith(begun)]


_ID = click.argument("id", shell_complete=_ids)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group(cls=Group)
def session() -> None:
    """Manage sessions that outlive the command that opened them.

    You may shorten an id to a beginning that no other session has.
    """


@contextlib.contextmanager
def _errors_reported() -> Iterator[None]:
    """Errors as one line, with what docker uses too for "the sandbox failed"."""
    try:
        yield
    except (StockadeError, OSError) as error:
        about, words = getattr(error, "filename", None), getattr(error, "strerror", None)
        if words and not traced():
            say(f"stockade: {about or 'the system'}: {words}", err=True)
        else:
            failed(error)
        sys.exit(_FAILED)


@contextlib.contextmanager
def _attached(word: str, agent: str, **options: Any) -> Iterator[Session]:
    """The session, for one command; left running afterwards, whatever happens."""
    import stockade
    from stockade.ledger._overview import find_session

    found = find_session(stockade.default_runtime().ledger, word)
    attached = stockade.attach(found.session_id, agent_id=agent, **options)
    try:
        yield attached
    finally:
        with contextlib.suppress(StockadeError):
            attached.detach()


@session.command(cls=WallCommand)
@provider_option
@verbose_option
@_AGENT
@click.option(
    "--snapshot", type=click.Path(exists=True, dir_okay=False), help="Start from its files."
)
@click.option("--lifetime", type=float, metavar="SECONDS", help="Destroy it after this time.")
@click.option("--idle", type=float, metavar="SECONDS", help="Destroy it if unused so long.")
@_JSON
def create(
    provider: tuple[str, ...],
    verbose: bool,
    agent: str,
    snapshot: str | None,
    lifetime: float | None,
    idle: float | None,
    as_json: bool,
) -> None:
    """Start a session and print its id.

    Without --lifetime it ends after an hour. The sessions of landlock and bubblewrap end with
    their process, so these walls refuse.
    """
    import stockade
    from stockade.cli.commands.run import starting, terminable

    changes = {"lifetime_seconds": lifetime, "idle_seconds": idle}
    options: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_errors_reported())
        stack.enter_context(terminable())
        preference = wanted(provider)
        stack.enter_context(starting(preference))
        start = stockade.Snapshot.load(snapshot) if snapshot else None
        opened = stockade.open(preference, agent_id=agent, durable=True, snapshot=start, **options)
        report_taken(opened.provider, preference, verbose)
        opened.detach()
    name = opened.provider.name
    answer = {"session_id": opened.session_id, "provider": name, "agent": agent}
    say(json.dumps(answer) if as_json else opened.session_id)


@session.command(name="list")
@_JSON
def list_(as_json: bool) -> None:
    """List the sessions of this user, oldest first."""
    import stockade
    from stockade.ledger._overview import age, left, overview

    with _errors_reported():
        found = overview(stockade.default_runtime().ledger)
    if as_json:
        say(json.dumps([entry.plain() for entry in found], indent=2))
        return
    if not found:
        say("no session")
        return
    now = time.time()
    rows = [
        (
            entry.session_id[:16],
            entry.string,
            entry.state,
            "yes" if entry.durable else "no",
            entry.owner,
            age(now - entry.created_at),
            age(now - entry.last_used),
            left(entry),
        )
        for entry in found
    ]
    table(("session", "wall", "state", "durable", "owner", "age", "used", "left"), rows)


@session.command()
@_ID
@_JSON
def show(id: str, as_json: bool) -> None:
    """Show one session: wall, state, owner, lifetimes."""
    import stockade
    from stockade.ledger._overview import find_session, overview

    runtime = stockade.default_runtime()
    with _errors_reported():
        wanted = find_session(runtime.ledger, id).session_id
        (entry,) = (one for one in overview(runtime.ledger) if one.session_id == wanted)
    if as_json:
        say(json.dumps(entry.plain(), indent=2))
        return
    for name, value in entry.plain().items():
        text = _moment(value) if name in ("created_at", "last_used", "expires_at") else value
        say(f"{name + ':':14} {'-' if text in (None, '') else text}")


def _moment(value: float | None) -> str | None:
    if value is None:
        return None
    local = dt.datetime.fromtimestamp(value, dt.timezone.utc).astimezone()
    return local.isoformat(sep=" ", timespec="seconds")


@session.command(name="exec", context_settings={"ignore_unknown_options": True})
@_ID
@_AGENT
@click.option("--shell", metavar="LINE", help="Run a shell line instead of a command.")
@click.option("--stdin", "stdin_file", type=click.File("rb"), help="Standard input; - is ours.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The command's deadline.")
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Set, or pass on, a variable.")
@click.option("--workdir", metavar="DIR", help="The working folder inside.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def exec_(id: str, agent: str, command: tuple[str, ...], **options: Any) -> None:
    """Run a command or a shell line in a session.

    Output and exit code are as from `stockade run`. Processes that it leaves in the background
    run on in the session.
    """
    from stockade.cli.commands.run import Terminated, terminable

    if bool(command) == (options["shell"] is not None):
        raise click.UsageError("give one of COMMAND and --shell.")
    with _errors_reported(), terminable():
        try:
            code = _execute(id, agent, command, options)
        except KeyboardInterrupt:
            say("stockade: interrupted", err=True)
            code = 130
        except Terminated:
            code = 143
    sys.stdout.flush()
    sys.exit(code)


def _execute(id: str, agent: str, command: tuple[str, ...], options: dict[str, Any]) -> int:
    from stockade.cli.commands import run

    form: dict[str, Any] = {"argv": list(command)} if command else {"shell": options["shell"]}
    more: dict[str, Any] = {"env": environment(options["env"])}
    for option, field in (("workdir", "working_dir"), ("timeout", "timeout")):
        if options[option] is not None:
            more[field] = options[option]
    given = feed(options["stdin_file"])
    with _attached(id, agent) as attached:
        more["stdin"] = run.whole(given)
        if options["as_json"]:
            return run._as_json(attached, attached.start(**form, **more).result())
        with attached.stream(**form, **more, output_limit_bytes=run._LIVE_WINDOW) as execution:
            return run._report(execution.result()) if run._pass_on(execution) else 141


@session.command(name="shell", context_settings={"ignore_unknown_options": True})
@_ID
@_AGENT
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell_(id: str, agent: str, command: tuple[str, ...]) -> None:
    """Open a terminal in a session, which goes on when you leave.

    Runs COMMAND, or the sandbox's own shell, and exits with its code.
    """
    from stockade.cli.commands import shell

    shell.require_terminal("stockade session exec")
    with _errors_reported(), _attached(id, agent) as attached:
        code = shell.on_terminal(attached, command)
    sys.exit(code)


@session.command()
@click.argument("source")
@click.argument("destination")
@_AGENT
def cp(source: str, destination: str, agent: str) -> None:
    """Copy a file or a folder into a session, or out of it.

    One of SOURCE and DESTINATION is ID:/path, the other a path of this machine. If something
    cannot be copied, such as a FIFO, it is named and the exit code is 1.
    """
    from stockade.cli.commands import copying

    into, inside = _inside(destination)
    out_of, from_inside = _inside(source)
    if bool(into) == bool(out_of):
        raise click.UsageError("one of SOURCE and DESTINATION is ID:/path, the other a path here.")
    with _errors_reported():
        if into:
            with _attached(into, agent) as attached:
                missed = copying.put(attached, source, inside)
        else:
            with _attached(out_of, agent) as attached:
                missed = copying.get(attached, from_inside, destination)
    for one in missed:
        say(f"stockade: not copied: {one}", err=True)
    sys.exit(1 if missed else 0)


def _inside(text: str) -> tuple[str, str]:
    """(id, path inside) of ID:/path; an empty id for a path of this machine."""
    word, colon, path = text.partition(":")
    if colon and path.startswith("/") and word and os.sep not in word:
        return word, path
    return "", text


@session.command()
@_ID
@_JSON
def logs(id: str, as_json: bool) -> None:
    """Show what ran in a durable session, and how each ended.

    Commands, code and output are not kept. For a record that cannot be changed unseen,
    across all sessions, use the audit log (`stockade run --audit`, stockade.AuditLog).
    """
    import stockade
    from stockade.ledger._overview import find_session

    runtime = stockade.default_runtime()
    with _errors_reported():
        found = find_session(runtime.ledger, id)
        assert runtime.ledger is not None
        entries = runtime.ledger.executions(found.session_id)
    if as_json:
        say(json.dumps(entries, indent=2))
        return
    if not entries:
        durable = "no execution yet" if found.durable else "kept for durable sessions alone"
        say(durable)
        return
    rows = [tuple(_log_cells(entry)) for entry in entries]
    table(("execution", "form", "started", "seconds", "ended", "exit", "stdout", "stderr"), rows)


def _log_cells(entry: dict[str, Any]) -> Iterator[str]:
    started, ended = entry["started_at"], entry["ended_at"]
    yield str(entry["execution_id"])[:12]
    yield str(entry["form"] or "-")
    yield _moment(started) or "-"
    yield "-" if started is None or ended is None else f"{ended - started:.2f}"
    yield str(entry["verdict"] or entry["reason"] or ("running" if ended is None else "-"))
    for name in ("exit_code", "stdout_bytes", "stderr_bytes"):
        yield "-" if entry[name] is None else str(entry[name])


def _simple(name: str, act: Callable[[Session], None], words: str) -> None:
    """A command that does one thing to an attached session."""

    @session.command(name=name, help=words)
    @_ID
    @_AGENT
    def command(id: str, agent: str) -> None:
        with _errors_reported(), _attached(id, agent) as attached:
            act(attached)


_simple("pause", lambda attached: attached.pause(), "Freeze every process of a session.")
_simple("resume", lambda attached: attached.resume(), "Let a paused session go on.")


@session.command()
@_ID
@click.argument("file", type=click.Path(dir_okay=False))
@_AGENT
def snapshot(id: str, file: str, agent: str) -> None:
    """Save a session's files to FILE.

    `stockade session create --snapshot FILE` starts from them. If something cannot be kept,
    such as a FIFO, it is named.
    """
    with _errors_reported(), _attached(id, agent) as attached:
        taken = attached.snapshot(timeout=None)
        taken.save(file)
    for one in taken.missed:
        say(f"stockade: not kept: {one}", err=True)


@session.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=_ids)
@_AGENT
def destroy(ids: tuple[str, ...], agent: str) -> None:
    """End sessions, with all that runs in them."""
    left = False
    for word in ids:
        try:
            _destroy(word, agent)
        except StockadeError as error:
            failed(error)
            left = True
    sys.exit(_FAILED if left else 0)


def _destroy(word: str, agent: str) -> None:
    import stockade
    from stockade.errors import DestroyError
    from stockade.ledger._overview import find_session

    found = find_session(stockade.default_runtime().ledger, word)
    try:
        stockade.attach(found.session_id, agent_id=agent).close()
    except (SandboxLostError, SessionStateError) as error:
        # Half dead, or being ended by a process that died at it: what is left of it goes.
        done = stockade.collect(force=[found.session_id])
        gone = [entry[0] for entry in (*done.removed, *done.forgotten)]
        if found.session_id not in gone:
            raise DestroyError(f"{error} See `stockade gc`.") from error
