"""Walls to choose among: one that is good, one away, one that is small, one that does not start."""

from __future__ import annotations

import stockade
from core.walls import EVERYTHING, ScriptedSandbox, ScriptedWall
from stockade.capabilities import Isolation
from stockade.errors import (
    SandboxStartError,
)
from stockade.wall import Availability, Check, OpenRequest, Option, Sandbox


class Good(ScriptedWall):
    isolation = Isolation.CONTAINER
    options = {"depth": Option(int)}

    def open(self, request: OpenRequest) -> Sandbox:
        return ScriptedSandbox()


class Away(Good):
    def probe(self) -> Availability:
        return Availability((Check("engine", False, "switched off", "switch it on"),))


class Small(Good):
    """It has no terminal and holds no memory limit."""

    capabilities = EVERYTHING.with_(memory="unsupported", terminal="unsupported")


class Unstarted(Good):
    """Available, and no sandbox of it starts."""

    error: Exception = SandboxStartError("no such image", retryable=False)
    opened: list[str] = []

    def open(self, request: OpenRequest) -> Sandbox:
        self.opened.append(request.session_id)
        raise self.error


WALLS = {"good": Good, "other": Good, "away": Away, "small": Small, "unstarted": Unstarted}


def passed(provider: stockade.sessions._providers.WallProvider) -> list[str]:
    return [one.provider for one in provider.passed_over]
