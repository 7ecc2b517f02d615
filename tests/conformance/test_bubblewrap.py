"""The bubblewrap wall against the contract, with its limits held, and watched."""

from __future__ import annotations

from conformance.local_walls import OnThisMachine, Watched


class TestBubblewrap(OnThisMachine):
    provider = "bubblewrap"


class TestBubblewrapWatched(Watched):
    title = "bubblewrap-watched"
    provider = "bubblewrap?limits=watch"
