"""stockade as an MCP server; see :mod:`stockade_mcp.tools` for what a model may do."""

from __future__ import annotations

from stockade_mcp._tested import TESTED
from stockade_mcp.client import Behind, Client
from stockade_mcp.tools import make_server
from stockade_mcp.web import make_app

__all__ = ["TESTED", "Behind", "Client", "make_app", "make_server"]
