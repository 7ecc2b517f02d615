"""Short code in Hyperlight microVMs, for stockade."""

from __future__ import annotations

from stockade_hyperlight.tools import ToolError, allow_tool, forget_tool

__all__ = ["ToolError", "allow_tool", "forget_tool"]
