"""What the SDK writes down of a sandbox: its options, and its state."""

from __future__ import annotations

from typing import Literal

from agents.sandbox.session import SandboxSessionState
from agents.sandbox.session.sandbox_client import BaseSandboxClientOptions

__all__ = ["StockadeSandboxClientOptions", "StockadeSandboxSessionState"]


class StockadeSandboxClientOptions(BaseSandboxClientOptions):
    """Of one sandbox; the wall is the client's, where none is named here."""

    type: Literal["stockade"] = "stockade"
    #: A provider string with its options, in place of the client's; it does not widen these.
    provider: str | None = None
    #: Ports inside that ``resolve_exposed_port`` leads to.
    exposed_ports: tuple[int, ...] = ()


class StockadeSandboxSessionState(SandboxSessionState):
    """Of a sandbox that may be resumed. It holds no wall that a resumption would open: a state
    that somebody changed opens none that the client's owner did not choose."""

    type: Literal["stockade"] = "stockade"
    sandbox_id: str = ""  #: the session's
    durable: bool = False  #: whether another process reaches it
    #: What it was opened with, to be compared with what the client has.
    provider: str | None = None
