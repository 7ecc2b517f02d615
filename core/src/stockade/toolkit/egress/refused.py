"""What the gateway does not carry."""

from __future__ import annotations

from stockade.errors import StockadeError

__all__ = ["RefusedError"]


class RefusedError(StockadeError):
    """The gateway does not carry this; the message is for the program inside."""
