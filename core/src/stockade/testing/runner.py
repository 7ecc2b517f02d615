"""Running the suite without a test file: what ``stockade conformance`` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from stockade.capabilities import refuse
from stockade.sessions._providers import provider as select
from stockade.sessions._runtime import Runtime
from stockade.testing.clauses import CLAUSES, clause_of
from stockade.testing.probes.base import relaxed
from stockade.testing.report.data import CheckResult, Report, describe
from stockade.testing.report.recorder import Recorder
from stockade.testing.suite import ProviderConformance

__all__ = ["checks_of", "conformance"]


def checks_of(clauses: Sequence[str] = ()) -> list[str]:
    """The names of the checks in the contract's order: of these clauses, or groups (``D``)."""
    known = {name: clause_of(name) for name in dir(ProviderConformance) if name.startswith("test_")}
    order = list(CLAUSES)
    names = sorted(known, key=lambda name: (order.index(known[name]), name))
    wanted = {clause.upper() for clause in clauses}
    return [name for name in names if not wanted or wanted & {known[name], known[name][0]}]


def conformance(
    string: str,
    *,
    clauses: Sequence[str] = (),
    deviations: Mapping[str, str] | None = None,
    time_factor: float | None = None,
    on_start: Callable[[str], None] = lambda _: None,
    on_result: Callable[[CheckResult], None] = lambda _: None,
) -> Report:
    """Hold the wall that ``string`` names to the contract, and report.

    ``clauses`` picks some (``D6``) or whole groups (``D``); ``deviations`` are those of
    :class:`stockade.testing.base.ConformanceBase`. ``on_start`` is called with each
    check's name before it runs, ``on_result`` with its result. Raises what selecting the
    provider raises, and UnsupportedError if the string asks for what the wall lacks;
    all that goes wrong later is in the report.
    """
    chosen = select(string, runtime=Runtime(discover_plugins=False))
    have = chosen.wall.capabilities
    refuse(chosen.name, relaxed(chosen.config, have), have)  # each check would say the same
    members: dict[str, Any] = {"provider": string, "deviations": dict(deviations or {})}
    logging.getLogger("stockade").addHandler(logging.NullHandler())  # the report says it all
    if time_factor is not None:
        members["time_factor"] = time_factor
    suite: Any = type("Conformance", (ProviderConformance,), members)
    report = describe(chosen, string, time_factor=suite.time_factor)
    suite._recorder = recorder = Recorder(report, on_result)
    try:
        for name in checks_of(clauses):
            on_start(name)
            _one(getattr(suite(), name))
    finally:
        suite.teardown_class()
    return recorder.report


def _one(check: Callable[[], None]) -> None:
    """Run a check; its outcome is recorded already, whatever it raises."""
    try:
        check()
    except (Exception, pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception):
        return
