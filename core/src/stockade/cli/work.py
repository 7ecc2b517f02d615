"""What a command behind a wall is given of the caller's: folders, files, hosts, variables, and
how much it may use."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from stockade.cli.commands.copying import get, put
from stockade.cli.console import say
from stockade.cli.keys import SECRET_OPTIONS, secrets_of
from stockade.config import Mount, Secret
from stockade.system.own_files import read_own

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["Work", "environment", "work_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_MODES = {"ro": True, "rw": False}
_NONE = "none"
#: As many scripts as Linux follows, each the interpreter of the one before.
_SCRIPTS = 5


def _seconds(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | str | None:
    """A number of seconds, or ``none``, as provider strings have it."""
    if value in (None, _NONE):
        return value
    seconds: float = click.FLOAT(value, parameter, context)
    return seconds


#: Options that are fields of the configuration.
_LIMITS = {
    "memory": "memory_mb",
    "cpu": "cpu_limit",
    "processes": "max_processes",
    "disk": "disk_mb",
    "lifetime": "lifetime_seconds",
}
#: What click may not take for options of its own names.
_OPTIONS = (
    click.option("--memory", type=int, metavar="MiB", help="MiB of memory.  [default: 512]"),
    click.option("--cpu", type=float, metavar="CPUS", help="Cpus, such as 0.5.  [default: 1]"),
    click.option(
        "--processes", type=int, metavar="N", help="Processes at one time.  [default: 256]"
    ),
    click.option(
        "--disk",
        type=int,
        metavar="MiB",
        help="MiB in the working folder, and as many in /tmp.  [default: 256]",
    ),
    click.option(
        "--lifetime",
        callback=_seconds,
        metavar="SECONDS",
        help="End the sandbox after this time, busy or not; none: never.  [default: 3600]",
    ),
    click.option(
        "--mount",
        "mounts",
        multiple=True,
        metavar="DIR[:PATH][:rw]",
        help="Show a folder of this machine at its own path, or at PATH; read-only without :rw.",
    ),
    click.option(
        "--put",
        "puts",
        multiple=True,
        metavar="PATH[:TO]",
        help="First copy a file, or a folder's content, into the working folder, or to TO.",
    ),
    click.option(
        "--get",
        "gets",
        multiple=True,
        metavar="PATH[:TO]",
        help="Afterwards copy PATH from the sandbox into this folder, or to TO.",
    ),
    click.option(
        "--allow",
        "hosts",
        multiple=True,
        metavar="HOST[:PORT][=PLACE]",
        help="Let it reach this host and no other. PLACE: loopback, or a private network.",
    ),
    *SECRET_OPTIONS,
    click.option("--network", is_flag=True, help="Open the whole network."),
    click.option(
        "--env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set a variable, or pass on one of yours.",
    ),
    click.option(
        "--workdir",
        metavar="DIR",
        help="The folder inside to start in; this one, if it is mounted.",
    ),
)


def work_options(command: _Command) -> _Command:
    """The options that :meth:`Work.of` reads, for a command that opens a session."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@attrs.frozen(kw_only=True)
class Work:
    """What the options say."""

    limits: Mapping[str, Any]  #: fields of the configuration that were stated
    mounts: Sequence[Mount]
    puts: Sequence[tuple[str, str]]
    gets: Sequence[tuple[str, str]]
    hosts: Sequence[str]
    secrets: Sequence[Secret]
    network: bool
    env: Mapping[str, str] = attrs.field(repr=False)
    working_dir: str | None  #: to start in; None: the session's

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Work:
        """Raises click.UsageError for what cannot be meant, and ConfigError, OSError for
        secrets."""
        mounts = [_mount(text) for text in options["mounts"]]
        return cls(
            limits=_limits(options),
            mounts=mounts,
            puts=[_pair("--put", text) for text in options["puts"]],
            gets=[_pair("--get", text) for text in options["gets"]],
            hosts=options["hosts"],
            secrets=secrets_of(options["secrets"], options["secret_files"]),
            network=options["network"],
            env=environment(options["env"]),
            working_dir=options["workdir"] or _here(mounts),
        )

    def fields(self) -> dict[str, Any]:
        """Of the configuration; only what was said, so that the provider string's stay."""
        found: dict[str, Any] = dict(self.limits)
        if self.mounts:
            found["mounts"] = tuple(self.mounts)
        if self.hosts:
            found["network_allow"] = tuple(self.hosts)
        if self.secrets:
            found["secrets"] = tuple(self.secrets)
        if self.network:
            found["network_enabled"] = True
        return found

    def start(self) -> dict[str, Any]:
        """Of an execution: its variables and where it starts."""
        more: dict[str, Any] = {"env": self.env}
        return more if self.working_dir is None else {**more, "working_dir": self.working_dir}

    def bring(self, session: Session) -> None:
        """Copy in what is to be there. Raises what files raise."""
        for source, to in self.puts:
            path = self._inside(session, to)
            if not to and not os.path.isdir(source):
                path = posixpath.join(path, os.path.basename(source))
            _report_missed(put(session, source, path))

    def fetch(self, session: Session) -> None:
        """Copy out what the command made. Raises what files raise."""
        for path, to in self.gets:
            inside = self._inside(session, path)
            _report_missed(get(session, inside, to or posixpath.basename(inside)))

    def not_shown(self, program: str) -> str:
        """Where a program of a mounted folder leads to, if that is here and not inside: an
        environment's interpreter, say, or the one that its scripts name. Else empty."""
        for _ in range(_SCRIPTS):
            end = self._end(program) if "/" in program else ""
            if not os.path.isfile(end) or not os.access(end, os.X_OK):
                return ""
            if not self._shows(end):
                return end
            program = _interpreter(end)
        return ""

    def _end(self, program: str) -> str:
        """Where a path inside leads to on this machine; empty if no mount has it."""
        path = posixpath.normpath(posixpath.join(self.working_dir or "", program))
        for mount in self.mounts:
            below = path.removeprefix(mount.target.rstrip("/") + "/")
            if below != path:
                return os.path.realpath(os.path.join(mount.source, below))
        return ""

    def _shows(self, path: str) -> bool:
        return any(
            path.startswith(mount.source.rstrip("/") + "/")
            for mount in self.mounts
            if mount.source == mount.target
        ) or path.startswith("/usr/")

    def _inside(self, session: Session, path: str) -> str:
        start = posixpath.join(session.provider.config.working_dir, self.working_dir or "")
        return posixpath.normpath(posixpath.join(start, path))


def environment(pairs: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` and ``NAME`` to variables. Raises click.UsageError for one that is not
    set here."""
    env = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in os.environ:
            raise click.UsageError(f"--env {name}: it is not set here; write --env {name}=VALUE.")
        env[name] = value if equals else os.environ[name]
    return env


def _limits(options: Mapping[str, Any]) -> dict[str, Any]:
    said = {field: options[name] for name, field in _LIMITS.items() if options[name] is not None}
    return {field: None if value == _NONE else value for field, value in said.items()}


def _mount(text: str) -> Mount:
    parts = text.split(":")
    read_only = _MODES[parts.pop()] if parts[-1] in _MODES and len(parts) > 1 else True
    if not parts[0] or len(parts) > 2 or not parts[-1]:
        raise click.UsageError(f"--mount {text}: write DIR, DIR:rw or DIR:PATH:rw.")
    source = os.path.abspath(parts[0])
    return Mount(source, parts[1] if len(parts) > 1 else source, read_only)


def _pair(option: str, text: str) -> tuple[str, str]:
    path, colon, to = text.partition(":")
    if not path or (colon and not to):
        raise click.UsageError(f"{option} {text}: write PATH or PATH:TO.")
    return path, to


def _here(mounts: Sequence[Mount]) -> str | None:
    """This folder, as it is called inside, where one of the mounts shows it."""
    here = os.getcwd()
    for mount in mounts:
        if here == mount.source or here.startswith(mount.source.rstrip("/") + "/"):
            return posixpath.normpath(mount.target + here.removeprefix(mount.source))
    return None


def _interpreter(script: str) -> str:
    """The program that a script's first line names; empty if it is no script."""
    try:
        head = read_own(script, group_writes=True)[0].partition(b"\n")[0]
    except OSError:
        return ""
    words = head[2:].split() if head.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def _report_missed(misses: Sequence[Any]) -> None:
    for miss in misses:
        say(f"stockade: not copied: {miss}", err=True)
