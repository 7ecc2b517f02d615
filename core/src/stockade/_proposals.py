"""What policies see, what they may answer, and the check that they only tighten."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from stockade.config import OutputPolicy, SandboxConfig
from stockade.results import SandboxResult
from stockade.wall import ExecRequest

__all__ = [
    "RULES",
    "ExecutionProposal",
    "JudgedExecution",
    "Refuse",
    "RequestProposal",
    "SessionProposal",
    "Tighten",
    "loosened",
]


@attrs.frozen
class Refuse:
    """A policy's no; the reason reaches the caller in PolicyRefusedError."""

    reason: str  #: a sentence for the caller, without secrets


@attrs.frozen(kw_only=True)
class SessionProposal:
    """A session that is about to be created."""

    agent_id: str  #: who asks for it
    provider: str  #: the entry-point name
    target: str | None  #: the wall's own word for what runs, or None for its default
    config: SandboxConfig  #: what is asked for, environment values included


@attrs.frozen(kw_only=True)
class ExecutionProposal:
    """A request that is about to be executed, script, arguments and environment included.

    A deadline of None is none (``request.timeout_seconds``, D15).
    """

    agent_id: str  #: whose session it is
    provider: str  #: the entry-point name
    session_id: str  #: the session that it is to run in
    request: ExecRequest  #: what is to be executed; a policy must not keep or log its values
    output_limit_bytes: int | None  #: of each stream; None for a terminal, which has none
    #: It is a program on a terminal, for a person: ``request`` is its argument vector, ``sh``
    #: for the sandbox's own shell.
    terminal: bool = False


@attrs.frozen(kw_only=True)
class RequestProposal:
    """What a program is about to ask of a host, as the gateway reads it; no value is in it."""

    agent_id: str  #: whose session it is
    provider: str  #: the entry-point name
    session_id: str  #: the session whose program asks
    host: str  #: the name that is asked for
    port: int  #: of the host
    method: str  #: ``CONNECT`` for a tunnel that the gateway does not read, ``SIGN`` for a login
    path: str  #: without its query; empty of such a tunnel, of a login the user
    secrets: tuple[str, ...]  #: the names of those that it would carry


@attrs.frozen(kw_only=True)
class Tighten:
    """What an execution policy may change; larger values than proposed are refused.

    None leaves a limit as it is. A terminal that passes one is closed.
    """

    timeout_seconds: float | None = None  #: seconds from the execution's start
    output_limit_bytes: int | None = None  #: bytes kept of each stream


@attrs.frozen(kw_only=True, eq=False)
class JudgedExecution:
    """An execution that every policy let pass, as middleware sees it (``stockade_execution``)."""

    agent_id: str  #: whose session it is
    provider: str  #: the entry-point name
    session_id: str  #: the session that it is to run in
    #: What is about to be executed, as the policies left it: argument vector, script, standard
    #: input and environment values among it.
    request: ExecRequest
    output_limit_bytes: int  #: of each stream
    config: SandboxConfig  #: the session's
    #: Somebody reads the output while it comes; what was read before the result is there has
    #: passed all middleware by, unless one called ``hold_output``.
    live: bool = False
    _run: Callable[[], SandboxResult]
    _hold: Callable[[], None]

    def hold_output(self) -> None:
        """Give a live reader nothing before all middleware has passed the result; then its
        output, as the result has it. Call it before the execution: RuntimeError afterwards."""
        self._hold()


#: Whether the first configuration allows more than the second in one field.
_Rule = Callable[[SandboxConfig, SandboxConfig], bool]


def _limit(name: str) -> _Rule:
    """A number: more is looser, and None is no limit."""

    def looser(new: SandboxConfig, old: SandboxConfig) -> bool:
        before, after = getattr(old, name), getattr(new, name)
        return before is not None and (after is None or after > before)

    return looser


def _fixed(name: str) -> _Rule:
    """A choice of which none is stricter: any other one is refused."""
    return lambda new, old: getattr(new, name) != getattr(old, name)


def _network(config: SandboxConfig) -> int:
    """How open it is: closed, some hosts, everything."""
    named = config.network_allow or config.secrets
    return 2 if config.network_enabled else 1 if named else 0


def _more_hosts(new: SandboxConfig, old: SandboxConfig) -> bool:
    if _network(new) != 1 or _network(old) == 2:
        return False
    return not set(new.network_allow) <= set(old.network_allow)


def _other_variables(new: SandboxConfig, old: SandboxConfig) -> bool:
    known = old.env_vars
    return any(known.get(name) != value for name, value in new.env_vars.items())


def _other_mounts(new: SandboxConfig, old: SandboxConfig) -> bool:
    """More of them, or one that may be written and could not."""
    allowed = {*old.mounts, *(attrs.evolve(mount, read_only=True) for mount in old.mounts)}
    return not allowed.issuperset(new.mounts)


#: Of every field of the configuration, when it allows more. A field that is missing here may
#: not be changed by a policy at all, and a test fails until it has a rule.
RULES: Mapping[str, _Rule] = {
    "timeout_seconds": _limit("timeout_seconds"),
    "memory_mb": _limit("memory_mb"),
    "cpu_limit": _limit("cpu_limit"),
    "network_enabled": lambda new, old: _network(new) == 2 and _network(old) < 2,
    "read_only_fs": lambda new, old: old.read_only_fs and not new.read_only_fs,
    "env_vars": _other_variables,
    "user": _fixed("user"),
    "working_dir": _fixed("working_dir"),
    "disk_mb": _limit("disk_mb"),
    "max_processes": _limit("max_processes"),
    "output_limit_bytes": _limit("output_limit_bytes"),
    "output_policy": lambda new, old: (
        old.output_policy is OutputPolicy.END and new.output_policy is OutputPolicy.DRAIN
    ),
    "output_keep": lambda _new, _old: False,  # either part allows the same
    "lifetime_seconds": _limit("lifetime_seconds"),
    "idle_seconds": _limit("idle_seconds"),
    "durable": lambda new, old: new.durable and not old.durable,
    "startup_timeout_seconds": _limit("startup_timeout_seconds"),
    "mounts": _other_mounts,
    "network_allow": _more_hosts,
    # Dropping one takes something away; another host, header or source would give something.
    "secrets": lambda new, old: not set(new.secrets) <= set(old.secrets),
    "ports": lambda new, old: not set(new.ports) <= set(old.ports),
    "labels": lambda _new, _old: False,  # marks for listings, which allow nothing
}


def loosened(new: SandboxConfig, old: SandboxConfig) -> list[str]:
    """The fields of ``new`` that allow more than ``old`` does."""
    names = [field.name for field in attrs.fields(SandboxConfig)]
    return [name for name in names if RULES.get(name, _fixed(name))(new, old)]
