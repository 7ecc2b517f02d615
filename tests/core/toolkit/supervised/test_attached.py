"""An attached sandbox does all that the sandbox behind it does (C10)."""

from __future__ import annotations

from stockade.toolkit.supervised import AttachedSandbox
from stockade.wall import Sandbox


def test_every_call_of_a_sandbox_is_passed_on() -> None:
    """A new one too. Not its lifetime, which is held where it outlives this process; and
    whether it is paused the wall asks, since no supervisor answers then."""
    calls = {name for name in vars(Sandbox) if not name.startswith("_")}
    assert calls - set(vars(AttachedSandbox)) == {"expire_at", "is_paused"}
