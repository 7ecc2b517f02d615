"""What the gateway bounds."""

from __future__ import annotations

import attrs

__all__ = ["Limits"]


@attrs.frozen(kw_only=True)
class Limits:
    """What the gateway bounds for one sandbox; times are in seconds."""

    connections: int = 128  #: at the same time; one more is answered with 503
    head_seconds: float = 30.0  #: for the whole request's head, or greeting of TLS
    connect_seconds: float = 15.0  #: for all addresses of a name together
    idle_seconds: float = 120.0  #: without a byte in either direction
