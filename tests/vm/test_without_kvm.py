"""The negative control: without a KVM that runs guests, the walls say so, and why.

Run outside, where a ``/dev/kvm`` may be there with nothing behind it, and in the guest
with its ``/dev/kvm`` taken away.
"""

from __future__ import annotations

import os

import pytest

import stockade
from stockade.errors import ProviderUnavailableError
from stockade.sessions._providers import inspect_providers
from stockade.system.installing import install
from stockade.toolkit import kvm

WALLS = {"hyperlight": "hyperlight", "microsandbox": "microsandbox:/"}


@pytest.fixture
def missing() -> str:
    """What KVM lacks here, in the probe's own words."""
    found = kvm.checks()[-1]
    if found.ok:
        pytest.skip("KVM runs guests here: nothing to refuse")
    return found.detail


@pytest.mark.parametrize("name", WALLS)
def test_the_wall_is_unavailable_and_says_why(name: str, missing: str) -> None:
    found = inspect_providers([name])
    if not found and "vm" not in os.environ.get("STOCKADE_REQUIRE", "").split(","):
        pytest.skip(f"stockade-{name} is not installed")
    assert not found[0].available
    if "not installed" in found[0].reason:  # the plug-in without its packages
        assert install(f"stockade-{name}") in found[0].reason
        return
    assert missing in found[0].reason
    with pytest.raises(ProviderUnavailableError) as caught:
        stockade.open(WALLS[name])
    assert missing in str(caught.value)
