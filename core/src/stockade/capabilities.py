"""What a wall can do and enforce, stated feature by feature.

A wall says for every feature ``native``, ``emulated`` or ``unsupported``. Core
refuses what is unsupported before anything starts (see :func:`refusals`), and
the conformance suite checks each claim and each refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from stockade.errors import ConfigError, UnsupportedError
from stockade.values.options import nearest

if TYPE_CHECKING:
    from stockade.config import SandboxConfig

__all__ = [
    "NEEDS",
    "Capabilities",
    "Feature",
    "Isolation",
    "Level",
    "Need",
    "Support",
    "refusals",
    "refuse",
]


class Level(str, Enum):
    """How far a feature goes."""

    NATIVE = "native"  #: the kernel, engine or hypervisor does it
    EMULATED = "emulated"  #: stockade or the wall does it on top
    UNSUPPORTED = "unsupported"  #: asking for it is refused

    def __str__(self) -> str:
        return self.value


class Isolation(str, Enum):
    """What stands between the code and the host."""

    NONE = "none"  #: nothing: for tests and examples only
    PROCESS = "process"  #: the host's kernel, rules on a process (Landlock, seccomp)
    CONTAINER = "container"  #: the host's kernel, namespaces
    KERNEL = "kernel"  #: a kernel of its own in user space (gVisor)
    VM = "vm"  #: a virtual machine

    def __str__(self) -> str:
        return self.value


class Feature(str, Enum):
    """Everything a wall states a level for; the clause it belongs to in brackets."""

    # the forms of a request
    ARGV = "argv"  #: an argument vector [D1]
    SHELL = "shell"  #: a shell line [D1]
    CODE = "code"  #: code in a named language [D1]
    # the contract's capabilities
    DURABLE = "durable"  #: outlives its process, other processes attach [C9, C10]
    STATEFUL = "stateful"  #: named interpreters that keep their variables [D20]
    NOTEBOOK = "notebook"  #: of these: values, displays, errors, interrupts [D20]
    BACKGROUND = "background"  #: children outlive their execution [D7]
    PROCESS_HARDENING = "process-hardening"  #: capabilities, no_new_privs, seccomp, uid [E1]
    ALLOW_LIST = "allow-list"  #: egress to named hosts only [E10]
    SECRETS = "secrets"  #: values that requests carry and code never sees [E11]
    FILES = "files"  #: reading and writing files [F1 to F5]
    WATCH = "watch"  #: changes below a folder, reported [F6]
    SNAPSHOT = "snapshot"  #: save files, start from them [G1]
    PAUSE = "pause"  #: freeze and resume [G2]
    LIVE_INPUT = "live-input"  #: standard input that stays open [D17]
    SIGNALS = "signals"  #: signals to running programs [D18]
    MERGED_OUTPUT = "merged-output"  #: both streams as one, in the order of writing [D5]
    TERMINAL = "terminal"  #: programs on a terminal of their own [D19]
    PORTS = "ports"  #: published ports on loopback
    # the limits and settings of the configuration
    MEMORY = "memory"  #: memory_mb [E5]
    CPU = "cpu"  #: cpu_limit [E6]
    PROCESSES = "processes"  #: max_processes [E4]
    DISK = "disk"  #: disk_mb [E2]
    NETWORK_OFF = "network-off"  #: network_enabled=False [E3]
    LOOPBACK = "loopback"  #: sockets to itself, and ``localhost`` as their name [E3]
    NETWORK = "network"  #: network_enabled=True
    READ_ONLY_ROOT = "read-only-root"  #: read_only_fs=True [E2]
    WRITABLE_ROOT = "writable-root"  #: read_only_fs=False
    USER = "user"  #: a user of the caller's choice
    EXECUTION_USER = "execution-user"  #: another user for one execution [D9]
    WORKING_DIR = "working-dir"  #: a working folder other than /workspace
    MOUNTS = "mounts"  #: host folders inside [E9]

    def __str__(self) -> str:
        return self.value


_E = TypeVar("_E", Feature, Level)


def _word(kind: type[_E], what: str, value: _E | str) -> _E:
    """A member by its word. Raises ConfigError with the nearest one."""
    try:
        return kind(value)
    except ValueError:
        known = [str(member) for member in kind]
        raise ConfigError(
            f"{value!r} is no {what}{nearest(str(value), known)}; there are: {', '.join(known)}."
        ) from None


def _feature(value: Feature | str) -> Feature:
    return _word(Feature, "feature", value)


def _level(value: Level | str) -> Level:
    return _word(Level, "level of a feature", value)


@attrs.frozen
class Support:
    """The level of one feature, and a note that says what a reader must know."""

    level: Level = attrs.field(converter=_level)  #: native, emulated or unsupported
    note: str = ""  #: for readers: what holds only in part, or why not

    def __bool__(self) -> bool:
        return self.level is not Level.UNSUPPORTED


_UNSUPPORTED = Support(Level.UNSUPPORTED)


def _support(value: Support | Level | str | tuple[str, str]) -> Support:
    if isinstance(value, Support):
        return value
    if isinstance(value, tuple):
        return Support(*value)
    return Support(value)


def _table(
    value: Mapping[Feature | str, Support | Level | str | tuple[str, str]],
) -> dict[Feature, Support]:
    return {_feature(name): _support(given) for name, given in value.items()}


@attrs.frozen
class Capabilities(Mapping[Feature, Support]):
    """A read-only table from feature to support; what is not named is unsupported.

    Raises ConfigError, with the nearest one, for a feature or a level that there is not.

    >>> have = Capabilities({"argv": "native", "memory": ("emulated", "watched")})
    >>> have["memory"].level
    <Level.EMULATED: 'emulated'>
    >>> bool(have["snapshot"])
    False
    """

    _features: dict[Feature, Support] = attrs.field(converter=_table, factory=dict)

    def __getitem__(self, feature: Feature | str) -> Support:
        return self._features.get(_feature(feature), _UNSUPPORTED)

    def __iter__(self) -> Iterator[Feature]:
        return iter(Feature)

    def __len__(self) -> int:
        return len(Feature)

    def with_(self, **changes: Support | Level | str | tuple[str, str]) -> Capabilities:
        """A copy with some features stated anew; ``_`` in a name stands for ``-``."""
        table: dict[Feature | str, Support | Level | str | tuple[str, str]] = {}
        table.update(self._features.items())
        table.update({name.replace("_", "-"): value for name, value in changes.items()})
        return Capabilities(table)

    def require(self, feature: Feature | str, wall: str, instead: str) -> None:
        """Raise UnsupportedError unless ``feature`` is there.

        ``instead`` is what the caller can do about it.
        """
        support = self[feature]
        if not support:
            why = f" ({support.note})" if support.note else ""
            raise UnsupportedError(f"{wall} does not support {feature}{why}; {instead}")


@attrs.frozen
class Need:
    """A field of the configuration that asks for a feature, and its value that asks for none."""

    feature: Feature  #: what the wall must claim
    field: str  #: of the configuration, by its name
    lifted: Any  #: the field's value that asks for nothing

    def is_asked(self, config: SandboxConfig) -> bool:
        """Whether this configuration asks for the feature by the field."""
        return bool(getattr(config, self.field) != self.lifted)


#: Which field asks for which feature. The rest follows from it: what is refused, and what a
#: wall's checks leave out; a field that is missing here needs nothing of a wall.
NEEDS: tuple[Need, ...] = (
    Need(Feature.MEMORY, "memory_mb", None),
    Need(Feature.CPU, "cpu_limit", None),
    Need(Feature.PROCESSES, "max_processes", None),
    Need(Feature.DISK, "disk_mb", None),
    Need(Feature.NETWORK_OFF, "network_enabled", True),
    Need(Feature.NETWORK, "network_enabled", False),
    Need(Feature.ALLOW_LIST, "network_allow", ()),
    Need(Feature.SECRETS, "secrets", ()),
    Need(Feature.READ_ONLY_ROOT, "read_only_fs", False),
    Need(Feature.WRITABLE_ROOT, "read_only_fs", True),
    Need(Feature.USER, "user", None),
    Need(Feature.WORKING_DIR, "working_dir", "/workspace"),
    Need(Feature.MOUNTS, "mounts", ()),
    Need(Feature.PORTS, "ports", ()),
    Need(Feature.DURABLE, "durable", False),
)


def refusals(config: SandboxConfig, have: Capabilities) -> list[Need]:
    """What ``config`` asks for and ``have`` lacks.

    Called by core before a session is created, so that nothing is weaker than asked.
    """
    return [need for need in NEEDS if need.is_asked(config) and not have[need.feature]]


def refuse(name: str, config: SandboxConfig, have: Capabilities) -> None:
    """Raise UnsupportedError for what the wall ``name`` cannot hold, before anything starts."""
    missing = refusals(config, have)
    if missing:
        asked = "; ".join(
            f"{need.field}={getattr(config, need.field)!r} needs {need.feature}"
            + (f" ({note})" if (note := have[need.feature].note) else "")
            + f", else set {need.field}={need.lifted!r}"
            for need in missing
        )
        raise UnsupportedError(f"{name} cannot hold what was asked: {asked}.")
