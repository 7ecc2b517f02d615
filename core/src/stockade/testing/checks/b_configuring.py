"""Checks of B: the configuration."""

from __future__ import annotations

import contextlib
import copy
import functools
import glob
import logging
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

import stockade
from stockade.capabilities import NEEDS, Feature, Isolation, Need, refusals
from stockade.config import MIB, Limits, Mount, SandboxConfig, Secret
from stockade.errors import (
    ConfigError,
    ProviderNotFoundError,
    StockadeError,
    UnsupportedError,
    WorkingDirectoryError,
)
from stockade.selection._spec import Preference
from stockade.session import Session
from stockade.testing.base import ConformanceBase, anywhere, expect
from stockade.testing.programs import sleep, unique
from stockade.values.shown import named

#: The limits that may be fixed elsewhere, and what a stated one needs (B6).
_LIMITS = {
    need.field: need
    for need in NEEDS
    if need.field in {field.name for field in attrs.fields(Limits)}
}

_PLAIN_LIMITS = {field: getattr(SandboxConfig(), field) for field in _LIMITS}

#: The trait's own defaults, and those beyond its six (B1, B3).
_DEFAULTS: dict[str, Any] = {
    "timeout_seconds": 60.0,
    "memory_mb": 512,
    "cpu_limit": 1.0,
    "network_enabled": False,
    "read_only_fs": True,
    "env_vars": {},
    "working_dir": "/workspace",
    "max_processes": 256,
    "output_limit_bytes": MIB,
    "user": None,
    "mounts": (),
    "network_allow": (),
}

_WRONG: tuple[tuple[str, Any], ...] = (
    ("timeout_seconds", math.nan),
    ("timeout_seconds", math.inf),
    ("timeout_seconds", 0),
    ("timeout_seconds", -1.0),
    ("timeout_seconds", True),
    ("memory_mb", 0),
    ("memory_mb", 1.5),
    ("memory_mb", 1 << 60),
    ("memory_mb", True),
    ("cpu_limit", math.nan),
    ("cpu_limit", -1),
    ("max_processes", 0),
    ("disk_mb", -1),
    ("output_limit_bytes", 0),
    ("network_enabled", 1),
    ("read_only_fs", None),
    ("env_vars", {"": "x"}),
    ("env_vars", {"A=B": "x"}),
    ("env_vars", {"A\0": "x"}),
    ("env_vars", {"A": "x\0"}),
    ("env_vars", {"A": 1}),
    ("working_dir", "relative"),
    ("working_dir", "/a/../b"),
    ("user", "0"),
    ("user", "root"),
    ("lifetime_seconds", math.nan),
    ("idle_seconds", 0),
    ("startup_timeout_seconds", math.inf),
)

#: A value of each field that asks for a feature and is no flag.
_EXAMPLES: dict[str, Any] = {
    "memory_mb": 64,
    "cpu_limit": 0.5,
    "max_processes": 16,
    "disk_mb": 8,
    "user": "12345",
    "working_dir": "/elsewhere",
    "mounts": (Mount("/srv", "/srv"),),
    "network_allow": ("example.org",),
    "ports": (8080,),
    "secrets": (Secret("example", "env:EXAMPLE", hosts=["example.org"]),),
}
#: Fields that contradict others unless these stand so.
_BESIDE = {name: {"network_enabled": False} for name in ("network_allow", "secrets")}


def _asking(need: Need) -> dict[str, Any]:
    """Fields that ask for a feature."""
    flag = isinstance(need.lifted, bool)
    value = not need.lifted if flag else _EXAMPLES[need.field]
    return {need.field: value, **_BESIDE.get(need.field, {})}


_COPIES: dict[str, Callable[[Any], Any]] = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - this very process's
}


class Configuration(ConformanceBase):
    """B: what the wall cannot hold is refused; what it is given does not leak."""

    def test_B1_the_defaults_are_held_or_refused(self) -> None:
        provider = self.make_provider()
        missing = refusals(SandboxConfig(), provider.wall.capabilities)
        if not missing:
            provider.destroy_session("a", provider.create_session("a", SandboxConfig()).session_id)
            return
        with pytest.raises(UnsupportedError) as caught:
            provider.create_session("a", SandboxConfig())
        for need in missing:
            named = str(need.feature) in str(caught.value)
            expect(named, "B1", f"{need.feature} named", caught.value)

    def test_B1_a_session_changes_no_configuration(self) -> None:
        plain = SandboxConfig()
        for name, value in _DEFAULTS.items():
            seen = getattr(plain, name)
            expect(seen == value, "B1", f"the default {name}={value!r}", seen)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            plain.memory_mb = 1  # type: ignore[misc]
        provider = self.make_provider()
        before = attrs.asdict(provider.config, recurse=False)
        record = provider.open_record("a")
        with Session(provider, record):
            after = attrs.asdict(record.config, recurse=False)
        expect(
            after == before,
            "B1",
            "the configuration as it was built",
            after,
            "what Wall.open does with request.config",
        )

    @anywhere
    def test_B2_wrong_values_are_refused_when_built(self) -> None:
        for field, value in _WRONG:
            try:
                config = SandboxConfig(**{field: value})
            except ConfigError as error:
                expect(field in str(error), "B2", f"an error that names {field}", error)
            else:
                expect(False, "B2", f"ConfigError for {field}={value!r}", getattr(config, field))

    def test_B3_what_is_unsupported_is_refused_before_anything_starts(self) -> None:
        provider = self.make_provider()
        have = provider.wall.capabilities
        before = provider.runtime.registry.records()
        for need in NEEDS:
            if not have[need.feature]:
                config = provider.config.with_(**_asking(need))
                create = functools.partial(provider.create_session, "a", config)
                self.refused("B3", create, need.feature)
        self._refused = ()  # the clause binds every wall: refusing is what holds it
        left = [r for r in provider.runtime.registry.records() if r not in before]
        expect(not left, "B3", "no session left", left)

    def test_B3_the_working_folder_is_where_it_was_asked(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            folder, name = session.provider.config.working_dir, unique()
            session.shell(f"echo here > {name}")
            # Where nothing is hidden, the folder has another name on this machine.
            hides = session.provider.wall.isolation is not Isolation.NONE
            path = f"{folder}/{name}" if hides else name
            result = session.shell(f"cat {path}; rm -f {name}")
            expect(result.stdout == "here\n", "B3", f"programs that start in {folder}", result)

    def test_B3_a_user_of_the_callers_choice(self) -> None:
        self.need(Feature.USER, Feature.SHELL)
        with self.session(user="12345:12346") as session:
            seen = session.shell("id -u; id -g").stdout.split()
            expect(seen == ["12345", "12346"], "B3", "uid 12345, gid 12346", seen)

    def test_B4_environment_values_show_nowhere(self) -> None:
        secret = f"conformance-secret-{unique()}"
        with _logged() as lines, self.session(env_vars={"TOKEN": secret}) as session:
            if session.provider.wall.capabilities[Feature.SHELL]:
                seen = session.shell('printf %s "$TOKEN"').stdout
                expect(seen == secret, "B4", "the value inside", seen)
            execution = self.start(session, sleep(5), timeout=self.scaled(20))
            self.wait(0.3)
            shown = [line for line in host_command_lines() if secret in line]
            execution.cancel()
            expect(not shown, "B4", "no secret on a host command line", shown)
            config = repr(session.provider.config)
            expect(secret not in config, "B4", "no secret in a repr", config)
            self._fails_without(session, secret)
        reported = [line for line in lines if secret in line]
        expect(not reported, "B4", "no secret in a log", reported)

    def test_B5_what_callers_hold_pickles_copies_and_compares(self) -> None:
        provider = self.make_provider()
        handle = provider.create_session("conformance")
        record = provider.runtime.registry.get("conformance", handle.session_id)
        with Session(provider, record) as session:
            execution = self.start(session, sleep(0))
            held = [provider.config, handle, execution.result(), execution.handle()]
            held += self._errors(session)
            for value in held:
                for how, copied in _COPIES.items():
                    _same(value, how, copied)

    def test_B6_what_limits_a_session_is_reported(self) -> None:
        with self.session() as session:
            limits, config = session.limits, session._record.config
            fixed = session.provider.wall.fixed_elsewhere
        for field in _LIMITS:
            reported, asked = getattr(limits, field), getattr(config, field)
            if asked is not None:
                expect(reported == asked, "B6", f"{field}={asked}, as the session has it", reported)
            elif field in fixed:
                expect(
                    reported is not None,
                    "B6",
                    f"the {field} that is fixed elsewhere",
                    reported,
                    "Sandbox.limits: report what holds",
                )

    @anywhere
    def test_B6_a_bare_name_takes_what_is_fixed_elsewhere(self) -> None:
        if not self.provider:
            pytest.skip("the suite was given a provider object, not a string")
        try:
            chosen = stockade.provider(self.provider)
        except ProviderNotFoundError as error:
            pytest.skip(str(error))
        named = set(Preference.parse(self.provider).alternatives[0].options)
        for field in set(_LIMITS) - named:
            fixed = field in chosen.wall.fixed_elsewhere
            wanted = None if fixed else chosen.wall.defaults.get(field, _PLAIN_LIMITS[field])
            expect(
                getattr(chosen.config, field) == wanted,
                "B6",
                f"{field}={wanted} for the name",
                getattr(chosen.config, field),
            )

    def test_B6_a_stated_limit_is_held_or_refused(self) -> None:
        have = self.make_provider().wall.capabilities
        for need in _LIMITS.values():
            if not have[need.feature]:
                self.refused("B6", functools.partial(self._open, _asking(need)), need.feature)
        stated = [_asking(need) for need in _LIMITS.values() if have[need.feature]]
        try:
            self._holds({field: value for one in stated for field, value in one.items()})
        except UnsupportedError:  # one of these values: each alone is held or refused
            for one in stated:
                with contextlib.suppress(UnsupportedError):
                    self._holds(one)

    def _holds(self, stated: dict[str, Any]) -> None:
        with self.session(**stated) as session:
            limits = session.limits
        for field, value in stated.items():
            reported = getattr(limits, field)
            expect(reported == value, "B6", f"the stated {field}={value}", reported)

    def _open(self, config: dict[str, Any]) -> None:
        self.open_session(**config).close()

    def _errors(self, session: Session) -> list[StockadeError]:
        """Those that a wall may raise as its own."""
        found: list[StockadeError] = []
        calls: list[Callable[[], object]] = [
            lambda: self.run(session, sleep(0), working_dir="/no/such/folder"),
            lambda: session.code("x", language="cobol-85"),
            lambda: session.run([]),
            lambda: session.provider.runtime.registry.get("conformance", "ses-none"),
        ]
        for call in calls:
            try:
                call()
            except StockadeError as error:
                found.append(error)
        expect(len(found) >= 3, "B5", "errors of stockade's own", found)
        return found

    def _fails_without(self, session: Session, secret: str) -> None:
        try:
            self.run(session, sleep(0), working_dir="/no/such/folder")
        except WorkingDirectoryError as error:
            expect(secret not in str(error), "B4", "no secret in an error", error)


def _same(value: object, how: str, copied: Callable[[Any], Any]) -> None:
    """The copy is the same kind of thing, equal and with the same words."""
    name = type(value).__name__
    try:
        other = copied(value)
    except Exception as error:
        expect(False, "B5", f"{how} of {name}", named(error))
        return
    same = type(other) is type(value) and other == value and str(other) == str(value)
    expect(same, "B5", f"{how} of {name} that is equal: {value!s:.200}", other)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What is logged meanwhile, by anybody."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {record.exc_info}")

    root, handler = logging.getLogger(), Keep()
    root.addHandler(handler)
    try:
        yield lines
    finally:
        root.removeHandler(handler)


def host_command_lines() -> list[str]:
    """The command lines of this machine's processes, where it shows them."""
    lines = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                lines.append(file.read().decode("utf-8", "replace"))
        except OSError:
            continue
    return lines
