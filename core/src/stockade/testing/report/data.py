"""What a conformance run found: the data, its JSON, and each clause's state.

The JSON is stable: fields are added, never changed or removed, while ``schema``
stays 1. See ``docs/conformance.md`` for its description.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

import stockade
from stockade.capabilities import Feature, Level
from stockade.errors import StockadeError
from stockade.policies._hooks import default_hooks
from stockade.selection._discovery import installed
from stockade.selection._spec import ProviderString
from stockade.sessions._providers import WallProvider
from stockade.testing.clauses import CLAUSES
from stockade.wall import Wall

__all__ = [
    "SCHEMA",
    "STATES",
    "CheckResult",
    "ClauseState",
    "Report",
    "describe",
    "shown_string",
]

SCHEMA = 1
#: A check's outcomes. ``refused``: what is not claimed was asked for and refused;
#: ``unsupported``: it needs what is not claimed; ``skipped``: not run, the message says why.
OUTCOMES = ("passed", "refused", "deviated", "failed", "unsupported", "skipped")
#: A clause's states, the worst last. ``held`` is for clauses that bind every wall.
STATES = ("held", "native", "emulated", "unsupported", "not checked", "deviating", "failing")


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _host() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }


@attrs.frozen(kw_only=True)
class CheckResult:
    """One check: how it ended, how long it took, and what it said."""

    name: str
    clause: str
    outcome: str
    seconds: float
    message: str = ""
    #: Where an error came from, for the wall's author; no part of what is published.
    traceback: str = attrs.field(default="", repr=False, eq=False)


def _published(field: attrs.Attribute[Any], _: object) -> bool:
    return field.name != "traceback"


@attrs.frozen(kw_only=True)
class ClauseState:
    """What the checks of one clause come to."""

    state: str
    checks: int
    note: str = ""


@attrs.frozen(kw_only=True)
class Report:
    """A run of the suite on one wall."""

    title: str
    provider: str  #: the string, without values that may be secret
    wall: Mapping[str, Any]  #: name, target, distribution, version, isolation, summary
    capabilities: Mapping[str, Mapping[str, str]]
    checks: tuple[CheckResult, ...] = ()
    host: Mapping[str, Any] = attrs.field(factory=_host)
    stockade: str = stockade.__version__
    started: str = attrs.field(factory=lambda: _utc(time.time()))
    seconds: float = 0.0
    time_factor: float = 1.0
    #: What plug-ins add, by title (``stockade_report_sections``).
    sections: Mapping[str, Any] = attrs.field(factory=dict)
    run: str = ""  #: which run of the tests wrote it, to join the parts of several processes

    def states(self) -> dict[str, ClauseState]:
        """The state of each clause that has checks here, in the contract's order."""
        by_clause: dict[str, list[CheckResult]] = {}
        for check in self.checks:
            by_clause.setdefault(check.clause, []).append(check)
        return {
            number: self._state(number, by_clause[number])
            for number in CLAUSES
            if number in by_clause
        }

    def _state(self, number: str, checks: list[CheckResult]) -> ClauseState:
        seen = Counter(check.outcome for check in checks)
        count = len(checks)

        def state_of(state: str, *outcomes: str) -> ClauseState:
            said = dict.fromkeys(
                check.message.partition("\n  look at:")[0]
                for check in checks
                if check.outcome in outcomes and check.message
            )
            return ClauseState(state=state, checks=count, note="; ".join(said))

        if seen["failed"]:
            return state_of("failing", "failed")
        if seen["deviated"]:
            return state_of("deviating", "deviated")
        if seen["passed"]:
            return state_of(self._level(number), "skipped", "unsupported")
        if seen["refused"] or seen["unsupported"]:
            return state_of("unsupported", "unsupported", "refused")
        return state_of("not checked", "skipped")

    def _level(self, number: str) -> str:
        """How what passed is done: the weakest level of the clause's claimed features."""
        levels = {
            self.capabilities.get(str(feature), {}).get("level", str(Level.UNSUPPORTED))
            for feature in CLAUSES[number].features
        }
        if str(Level.EMULATED) in levels:
            return str(Level.EMULATED)
        return str(Level.NATIVE) if str(Level.NATIVE) in levels else "held"

    @property
    def failed(self) -> bool:
        return any(check.outcome == "failed" for check in self.checks)

    def with_check(self, check: CheckResult) -> Report:
        """This report with one more result; a check that ran again replaces itself."""
        others = [known for known in self.checks if known.name != check.name]
        return attrs.evolve(
            self,
            checks=tuple(sorted([*others, check], key=_order)),
            seconds=round(self.seconds + check.seconds, 3),
        )

    def joined(self, other: Report) -> Report:
        """Both reports' checks in one."""
        report = self
        for check in other.checks:
            report = report.with_check(check)
        return attrs.evolve(report, started=min(self.started, other.started))

    def to_json(self) -> dict[str, Any]:
        states = self.states()
        return {
            "schema": SCHEMA,
            "title": self.title,
            "provider": self.provider,
            "wall": dict(self.wall),
            "stockade": self.stockade,
            "host": dict(self.host),
            "started": self.started,
            "seconds": self.seconds,
            "time_factor": self.time_factor,
            "run": self.run,
            "capabilities": {name: dict(have) for name, have in self.capabilities.items()},
            "clauses": {number: attrs.asdict(state) for number, state in states.items()},
            "summary": dict(Counter(state.state for state in states.values())),
            "sections": dict(self.sections),
            "checks": [attrs.asdict(check, filter=_published) for check in self.checks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Read what ``to_json`` gave. Raises ValueError for another schema."""
        if data.get("schema") != SCHEMA:
            raise ValueError(f"a report of schema {data.get('schema')!r}; {SCHEMA} is known here")
        names = {field.name for field in attrs.fields(cls)} - {"checks"}
        known = {field.name for field in attrs.fields(CheckResult)}
        checks = tuple(
            CheckResult(**{name: check[name] for name in check if name in known})
            for check in data["checks"]
        )
        return cls(checks=checks, **{name: data[name] for name in names if name in data})


def _order(check: CheckResult) -> tuple[str, int, str]:
    return check.clause[:1], int(check.clause[1:] or 0), check.name


def shown_string(string: str, wall: Wall | None = None) -> str:
    """The provider string without the values of options that are secret (B4)."""
    try:
        spec = ProviderString.parse(string)
    except StockadeError:
        return string.partition("?")[0]
    own = {} if wall is None else wall.options
    options = {
        name: "***"
        if name == "env_vars" or (name in own and own[name].secret)
        else _PASSWORD.sub(r"\1***@", value)
        for name, value in spec.options.items()
    }
    return str(attrs.evolve(spec, options=options))


#: What stands before the host in a URL, where a password is among it.
_PASSWORD = re.compile(r"(://)[^/@]*:[^/@]*@")


def describe(
    provider: WallProvider | None,
    string: str,
    *,
    title: str = "",
    checks: Iterable[Any] = (),
    **more: Any,
) -> Report:
    """An empty report on a provider; None if it could not even be selected."""
    name = string.partition("?")[0].partition(":")[0] or (provider.name if provider else "")
    found = next((plugin for plugin in installed() if plugin.name == name), None)
    wall: dict[str, Any] = {
        "name": name,
        "target": None if provider is None else provider.wall.target,
        "distribution": found.distribution if found else "",
        "version": found.version if found else "",
        "isolation": "" if provider is None else str(provider.wall.isolation),
        "summary": "" if provider is None else provider.wall.summary,
    }
    capabilities: dict[str, dict[str, str]] = {}
    if provider is not None:
        have = provider.wall.capabilities
        capabilities = {
            str(feature): {"level": str(have[feature].level), "note": have[feature].note}
            for feature in Feature
        }
    report = Report(
        title=title or shown_string(string).partition("?")[0] or name,
        provider=shown_string(string, None if provider is None else provider.wall),
        wall=wall,
        capabilities=capabilities,
        checks=tuple(checks),
        **more,
    )
    hooks = default_hooks()
    hooks.load_what_can_be()
    return attrs.evolve(report, sections=hooks.report_sections(report.to_json()))
