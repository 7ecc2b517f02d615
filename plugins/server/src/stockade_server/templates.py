"""The operator's templates, as the protocol lists them."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from typing import Any

import stockade
from stockade_server.settings import Settings, Template

__all__ = ["Templates", "figures"]


def figures(limits: Any) -> dict[str, int]:
    """Limits in the protocol's words, and one of stockade's own (``maxProcesses``); 0 where
    none is known."""
    found = {
        "cpuCount": limits.cpu_limit,
        "memoryMB": limits.memory_mb,
        "diskSizeMB": limits.disk_mb,
        "maxProcesses": limits.max_processes,
    }
    return {name: math.ceil(value or 0) for name, value in found.items()}


class Templates:
    """What each of them gives, asked of its wall once."""

    def __init__(self, settings: Settings, envd_version: str) -> None:
        self._settings = settings
        self._envd_version = envd_version
        self._began = dt.datetime.now(dt.timezone.utc).isoformat()
        self._described: list[dict[str, Any]] | None = None

    async def listed(self) -> list[dict[str, Any]]:
        """``GET /templates``"""
        if self._described is None:
            templates = self._settings.templates.values()
            self._described = await asyncio.to_thread(lambda: list(map(self._one, templates)))
        return self._described

    def _one(self, template: Template) -> dict[str, Any]:
        config = stockade.provider(template.provider).config
        return {
            "templateID": template.name,
            "aliases": [template.name],
            "names": [template.name],
            **figures(config),
            "public": False,
            "envdVersion": self._envd_version,
            "createdAt": self._began,
            "updatedAt": self._began,
            # The operator made it: nothing is built, and nobody counts.
            "buildID": "",
            "buildStatus": "ready",
            "buildCount": 0,
            "spawnCount": 0,
            "createdBy": None,
            "lastSpawnedAt": None,
        }
