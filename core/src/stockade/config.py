"""The configuration of a sandbox: immutable, and checked when built (B1 to B4)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

import attrs

from stockade.errors import ConfigError
from stockade.values.frozen import FrozenMap, MaskedMap
from stockade.values.mount import Mount
from stockade.values.numbers import bounded
from stockade.values.options import (
    as_bool,
    as_float,
    as_int,
    as_map,
    as_mounts,
    as_ports,
    as_text,
    as_words,
)
from stockade.values.secret import Secret, as_secrets

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "DEFAULT_SNAPSHOT_BYTES",
    "MIB",
    "ConfigOptions",
    "Limits",
    "Mount",
    "OutputPolicy",
    "SandboxConfig",
    "Secret",
]

MIB = 1024 * 1024  #: Bytes of a mebibyte.
DEFAULT_SNAPSHOT_BYTES = 256 * MIB  #: What a snapshot holds at most, unless said otherwise.
_DAY = 86_400.0


class OutputPolicy(str, Enum):
    """What happens to a program that prints past the limit (D5)."""

    DRAIN = "drain"  #: it runs on unhindered, the rest is counted and dropped
    END = "end"  #: it is ended, with the verdict ``output limit``

    def __str__(self) -> str:
        return self.value


class OutputKeep(str, Enum):
    """Which part of a stream is kept that is longer than the limit (D5)."""

    HEAD = "head"  #: its first bytes
    TAIL = "tail"  #: its last bytes
    BOTH = "both"  #: half of the limit of each

    def __str__(self) -> str:
        return self.value


def _wrong(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{field}={value!r} is not allowed: {allowed}.")


def _flag(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(attribute.name, value, "True or False")


def check_env(field: str, env: Mapping[str, str]) -> None:
    """Refuse names and values that no process can have; the value is never shown (B4)."""
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ConfigError(
                f"{field} has the name {name!r}: names are non-empty text without '=' and NUL."
            )
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"{field}[{name!r}] is not allowed: values are text without NUL.")


def _check_env(_: Any, attribute: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    check_env(attribute.name, value)


def check_path(field: str, value: object) -> None:
    """Refuse what is not a normal absolute path inside the sandbox."""
    allowed = "an absolute, normal path inside the sandbox, such as '/workspace'"
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise _wrong(field, value, allowed)
    if posixpath.normpath(value) != value or value.startswith("//") or len(value) > 1024:
        raise _wrong(field, value, allowed)


def _check_path(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    check_path(attribute.name, value)


def _check_user(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    parts = value.split(":") if isinstance(value, str) else []
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if not 1 <= len(parts) <= 2 or len(numbers) != len(parts) or not numbers[0]:
        raise _wrong(attribute.name, value, "'UID' or 'UID:GID' in digits, not root (0), or None")
    if any(number > 2**32 - 2 for number in numbers):
        raise _wrong(attribute.name, value, "ids up to 4294967294")


def _check_mounts(_: Any, attribute: attrs.Attribute[Any], value: tuple[Mount, ...]) -> None:
    for mount in value:
        if not isinstance(mount, Mount):
            raise _wrong(attribute.name, mount, "Mount(source, target, read_only=True)")
        check_path("mounts target", mount.target)
        if not isinstance(mount.source, str) or not mount.source or "\0" in mount.source:
            raise _wrong("mounts source", mount.source, "a path of the host")


def check_ports(field: str, value: Sequence[int]) -> None:
    """Refuse what is no port, and one that stands there twice."""
    for port in value:
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise _wrong(field, port, "ports from 1 to 65535")
    if len(set(value)) != len(value):
        raise _wrong(field, value, "each port once")


def _check_ports(_: Any, attribute: attrs.Attribute[Any], value: tuple[int, ...]) -> None:
    check_ports(attribute.name, value)


def _check_words(_: Any, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for word in value:
        if not isinstance(word, str) or not word or not word.isprintable() or " " in word:
            raise _wrong(attribute.name, word, "host names, such as 'pypi.org'")


def _check_secrets(_: Any, attribute: attrs.Attribute[Any], value: tuple[Secret, ...]) -> None:
    for secret in value:
        if not isinstance(secret, Secret):
            raise ConfigError(f"{attribute.name} holds what is no Secret: write Secret(name, …).")
    for kind in ("name", "env"):
        words = [getattr(secret, kind) for secret in value if getattr(secret, kind)]
        if len(set(words)) != len(words):
            raise _wrong(attribute.name, words, f"each {kind} once")


def _check_labels(_: Any, attribute: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise _wrong(attribute.name, name, "non-empty text names with text values")
        if len(name) > 128 or len(text) > 1024 or not (name + text).isprintable():
            raise _wrong(attribute.name, name, "printable text, 128 and 1024 characters at most")


def _frozen_map(value: Any) -> Any:
    return FrozenMap(value) if isinstance(value, Mapping) else value


def _masked_map(value: Any) -> Any:
    return MaskedMap(value) if isinstance(value, Mapping) else value


def _map(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(attribute.name, value, "a mapping from text to text")


def _sequence(value: Any) -> Any:
    if isinstance(value, str):
        raise ConfigError(f"{value!r} is one text where a sequence belongs: put it in a tuple.")
    try:
        return tuple(value)
    except TypeError:
        raise ConfigError(f"{value!r} is not a sequence: give a tuple or a list.") from None


def _policy(value: Any) -> OutputPolicy:
    try:
        return OutputPolicy(value)
    except ValueError:
        raise _wrong("output_policy", value, "'drain' or 'end'") from None


def _keep(value: Any) -> OutputKeep:
    try:
        return OutputKeep(value)
    except ValueError:
        raise _wrong("output_keep", value, "'head', 'tail' or 'both'") from None


def _field(convert: Callable[[str], Any], unit: str = "", **kwargs: Any) -> Any:
    """A field that a provider string can set, through ``convert``; ``unit`` of a number."""
    return attrs.field(metadata={"convert": convert, "unit": unit}, **kwargs)


@attrs.frozen(kw_only=True)
class SandboxConfig:
    """What a sandbox may do and use. Every default is the safe one.

    A limit of None means that none is asked for; core refuses every other
    limit that the wall cannot hold, so a default is never ignored in silence.
    Raises ConfigError, naming field, value and what is allowed, when built.
    """

    #: Seconds an execution may take, unless it states its own (D6).
    timeout_seconds: float = _field(
        as_float, "seconds", default=60.0, validator=bounded(0.001, 30 * _DAY)
    )
    #: MiB of memory, swap included, for all the session's processes together (E5).
    memory_mb: int | None = _field(
        as_int, "MiB", default=512, validator=bounded(1, 4 * MIB, whole=True, optional=True)
    )
    #: Cpus, as a fraction or more than one (E6).
    cpu_limit: float | None = _field(
        as_float, "cpus", default=1.0, validator=bounded(0.01, 4096, optional=True)
    )
    #: Whether the code has a network at all (E3).
    network_enabled: bool = _field(as_bool, default=False, validator=_flag)
    #: Whether all but the working folder and /tmp is read-only (E2).
    read_only_fs: bool = _field(as_bool, default=True, validator=_flag)
    #: Environment variables of every execution; values never show anywhere (B4).
    env_vars: Mapping[str, str] = _field(
        as_map,
        factory=dict,
        converter=_masked_map,
        validator=[_map, _check_env],
        hash=False,
    )
    #: "UID" or "UID:GID" inside; None is an unprivileged one of the wall's choice.
    user: str | None = _field(as_text, default=None, validator=_check_user)
    #: The folder that lasts from execution to execution.
    working_dir: str = _field(as_text, default="/workspace", validator=_check_path)
    #: MiB that the working folder may hold, and the same again for /tmp (E2).
    disk_mb: int | None = _field(
        as_int, "MiB", default=256, validator=bounded(1, 64 * MIB, whole=True, optional=True)
    )
    #: Processes at one time (E4).
    max_processes: int | None = _field(
        as_int, "processes", default=256, validator=bounded(1, 4 * MIB, whole=True, optional=True)
    )
    #: Bytes kept of each output stream of an execution (D5).
    output_limit_bytes: int = _field(
        as_int, "bytes", default=MIB, validator=bounded(1, 1024 * MIB, whole=True)
    )
    #: What becomes of a program that prints more (D5).
    output_policy: OutputPolicy = _field(as_text, default=OutputPolicy.DRAIN, converter=_policy)
    #: Which part of a longer stream is kept (D5).
    output_keep: OutputKeep = _field(as_text, default=OutputKeep.HEAD, converter=_keep)
    #: Seconds from creation after which a session is destroyed, busy or not (C11).
    lifetime_seconds: float | None = _field(
        as_float, "seconds", default=3600.0, validator=bounded(0.1, 365 * _DAY, optional=True)
    )
    #: Seconds without an execution after which a session is destroyed; None: never.
    idle_seconds: float | None = _field(
        as_float, "seconds", default=None, validator=bounded(0.1, 365 * _DAY, optional=True)
    )
    #: Whether the session outlives the process that opened it, until it is destroyed or its
    #: lifetime is over; other processes attach to it (C9, C10).
    durable: bool = _field(as_bool, default=False, validator=_flag)
    #: Seconds that starting a sandbox may take.
    startup_timeout_seconds: float = _field(
        as_float, "seconds", default=60.0, validator=bounded(0.1, _DAY)
    )
    #: Host folders shown inside (E9).
    mounts: tuple[Mount, ...] = _field(
        as_mounts, default=(), converter=_sequence, validator=_check_mounts
    )
    #: Host names that the code may reach with everything else closed (E10).
    network_allow: tuple[str, ...] = _field(
        as_words, default=(), converter=_sequence, validator=_check_words
    )
    #: What code may use at some hosts and never sees; their hosts may be reached (E11).
    secrets: tuple[Secret, ...] = _field(
        as_secrets, default=(), converter=_sequence, validator=_check_secrets
    )
    #: Ports of the sandbox that are published on this machine's loopback, and nowhere else;
    #: they need no network.
    ports: tuple[int, ...] = _field(
        as_ports, default=(), converter=_sequence, validator=_check_ports
    )
    #: Your own marks on the session, shown in listings.
    labels: Mapping[str, str] = _field(
        as_map, factory=dict, converter=_frozen_map, validator=[_map, _check_labels], hash=False
    )

    def __attrs_post_init__(self) -> None:
        if self.network_enabled and self.network_allow:
            raise ConfigError(
                f"network_allow={self.network_allow!r} contradicts network_enabled=True: leave "
                "network_enabled=False to open these hosts alone, or drop network_allow."
            )
        if self.secrets:
            self._check_beside_secrets()

    def _check_beside_secrets(self) -> None:
        if self.network_enabled:
            raise ConfigError(
                "secrets contradict network_enabled=True, which no gateway stands in: leave "
                "network_enabled=False, and name other hosts that are needed in network_allow."
            )
        for secret in self.secrets:
            if secret.env in self.env_vars:
                raise ConfigError(
                    f"env_vars sets {secret.env!r}, in which the placeholder of the secret "
                    f"{secret.name!r} is to stand: leave one of the two out."
                )
            if self.durable and callable(secret.source):
                raise ConfigError(
                    f"the secret {secret.name!r} comes from a callable, which no other process "
                    "has, and the session is to be durable: name its source in words."
                )

    def with_(self, **changes: Unpack[ConfigOptions]) -> SandboxConfig:
        """A copy with some fields changed, checked anew; an unknown field is a ConfigError."""
        known = attrs.fields_dict(SandboxConfig)
        asked: dict[str, Any] = {**changes}
        for name in asked:
            if name not in known:
                from stockade.values.options import nearest

                raise ConfigError(
                    f"SandboxConfig has no field {name!r}{nearest(name, known)}; "
                    f"the fields are {', '.join(known)}."
                )
        return attrs.evolve(self, **asked)


@attrs.frozen(kw_only=True)
class Limits:
    """What a session may use. The caller, the defaults, a service's template or a cluster's policy
    fix it (B6). None: no known limit."""

    memory_mb: float | None = None  #: MiB of the whole session
    cpu_limit: float | None = None  #: cpus
    max_processes: float | None = None  #: processes at one time
    disk_mb: float | None = None  #: MiB of the working folder


class ConfigOptions(TypedDict, total=False):
    """The fields of :class:`SandboxConfig` as keywords, for whatever opens sessions.

    A type checker refuses a keyword that is misspelled, and a value of another type.
    """

    timeout_seconds: float  #: of an execution that states none
    memory_mb: int | None  #: MiB
    cpu_limit: float | None  #: cpus
    network_enabled: bool  #: the whole network
    read_only_fs: bool  #: of all but the working folder and temporary ones
    env_vars: Mapping[str, str]  #: of every execution
    user: str | None  #: "UID" or "UID:GID"
    working_dir: str  #: inside, absolute
    disk_mb: int | None  #: MiB
    max_processes: int | None  #: at one time
    output_limit_bytes: int  #: kept of each stream
    output_policy: OutputPolicy | str  #: past that limit
    output_keep: OutputKeep | str  #: of what is longer
    lifetime_seconds: float | None  #: from creation
    idle_seconds: float | None  #: without an execution
    durable: bool  #: outlive the process
    startup_timeout_seconds: float  #: for the sandbox's start
    mounts: Sequence[Mount]  #: folders of the host
    network_allow: Sequence[str]  #: host names
    secrets: Sequence[Secret]  #: used at their hosts, never seen
    ports: Sequence[int]  #: published on loopback
    labels: Mapping[str, str]  #: for listings
