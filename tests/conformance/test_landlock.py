"""The landlock wall against the contract, with its limits held, and watched."""

from __future__ import annotations

from conformance.local_walls import OnThisMachine, Watched


class TestLandlock(OnThisMachine):
    provider = "landlock"


class TestLandlockWatched(Watched):
    title = "landlock-watched"
    provider = "landlock?limits=watch"
