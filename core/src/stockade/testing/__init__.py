"""The conformance suite: inherit one class, and a wall is held to the contract.

    from stockade.testing import ProviderConformance

    class TestMyWall(ProviderConformance):
        provider = "mywall:target?option=value"

Needs pytest (extra ``testing``). Each check is named after its clause, cleans up
after itself, and has its own time limit. What the wall claims is checked; what it
does not claim must be refused. ``stockade conformance -p STRING`` runs the same checks
without a test file. ``stockade.testing.reference`` is a wall of scripted answers for
an application's own tests; it needs no pytest, so the suite is imported when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockade.testing.base import expect
    from stockade.testing.suite import ProviderConformance

__all__ = ["ProviderConformance", "expect", "probes", "reference"]


def __getattr__(name: str) -> Any:
    if name == "expect":
        from stockade.testing.base import expect

        return expect
    if name == "ProviderConformance":
        from stockade.testing.suite import ProviderConformance

        return ProviderConformance
    raise AttributeError(f"module 'stockade.testing' has no attribute {name!r}")
