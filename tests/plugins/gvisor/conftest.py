"""An engine makes its containers: the tests of docker know which."""

from __future__ import annotations

from plugins.docker.conftest import engine

__all__ = ["engine"]
