"""Measuring what a wall claims, from inside a sandbox behind it.

    for found in measure(stockade.provider("landlock")):
        print(found.name, found.claimed, found.outcome, found.detail)

``stockade doctor --probe`` prints these. A probe harms nobody even where the
wall holds nothing: what it allocates, forks and writes is bounded, and removed.
Most need nothing but ``sh`` and the small programs beside it; one that finds
less says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stockade.capabilities import Feature, Level
from stockade.sessions._providers import WallProvider
from stockade.testing.probes import limits, network, processes, sight
from stockade.testing.probes.base import Bench as _Bench
from stockade.testing.probes.base import Measurement, Outcome, Probe, attempt

__all__ = ["PROBES", "Measurement", "Outcome", "Probe", "measure"]

#: All that there are, in the order in which ``measure`` runs them.
PROBES: tuple[Probe, ...] = (
    *sight.PROBES,
    *network.PROBES,
    *processes.PROBES,
    *limits.PROBES,
)


def measure(
    provider: WallProvider,
    *,
    agent_id: str = "stockade-doctor",
    on_start: Callable[[Probe], None] = lambda _: None,
) -> Iterator[Measurement]:
    """Open a session and measure, one after the other; the session ends with the last.

    ``on_start`` is called before each probe, to show progress. Raises what
    opening a session raises; what goes wrong in a probe is its answer.
    """
    bench = _Bench(provider, agent_id)
    capabilities = provider.wall.capabilities
    try:
        if capabilities[Feature.SHELL]:
            _ = bench.session  # what prevents a session is raised, not reported forty times
        for probe in PROBES:
            on_start(probe)
            claimed = capabilities[probe.feature].level if probe.feature else None
            yield _one(probe, claimed, bench)
    finally:
        bench.close()


def _one(probe: Probe, claimed: Level | None, bench: _Bench) -> Measurement:
    if claimed is Level.UNSUPPORTED and not probe.unclaimed:
        assert probe.feature is not None
        outcome, detail = Outcome.NOT_CLAIMED, bench.provider.wall.capabilities[probe.feature].note
    elif not bench.claims(Feature.SHELL):
        outcome, detail = Outcome.UNKNOWN, "the wall runs no shell"
    else:
        found = attempt(probe, bench)
        outcome, detail = found.outcome, found.detail
    return Measurement(
        name=probe.name,
        clause=probe.clause,
        feature=probe.feature,
        claimed=claimed,
        outcome=outcome,
        detail=detail,
    )
