"""`local` against the contract, whatever wall that is; run in the guests of Debian's kernels."""

from __future__ import annotations

from conformance.local_walls import OnThisMachine


class TestLocal(OnThisMachine):
    provider = "local"
    title = "local"
