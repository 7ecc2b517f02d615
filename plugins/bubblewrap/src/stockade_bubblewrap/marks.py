"""The variables of a keeper's environment by which it is found."""

from __future__ import annotations

__all__ = ["OWNER", "SESSION"]

SESSION = "STOCKADE_BUBBLEWRAP_SESSION"
OWNER = "STOCKADE_BUBBLEWRAP_OWNER"
