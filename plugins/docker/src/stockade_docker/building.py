"""Images made of a Dockerfile, by the engine of a wall: for adapters whose tasks bring one."""

from __future__ import annotations

import io
import logging
import os
from typing import Any

import stockade
from stockade.errors import SandboxStartError, UnsupportedError
from stockade_docker import engine

__all__ = ["build", "folder_of"]

_log = logging.getLogger(__name__)
_SECONDS = 3600.0


def build(
    provider: str,
    tag: str | None,
    *,
    context: str | None = None,
    dockerfile: str,
    seconds: float = _SECONDS,
    fresh: bool = False,
    network: bool = True,
) -> str:
    """Have the engine behind one provider string make an image, with its cache unless ``fresh``;
    the image's id. Blocking.

    It is called ``tag``; one without a name is for a build that begins with it by its id, and
    goes with what that makes.

    ``dockerfile`` is a file's name in the folder ``context``, which is sent; without a folder
    it is the text itself. The engine's classic builder makes it: no ``RUN --mount``, and its
    lines run in ordinary containers of the engine, behind no wall; ``network`` is theirs. Raises
    UnsupportedError where the wall has no engine, SandboxStartError where the build fails.
    """
    api = _engine_of(provider)
    where = f"{dockerfile} in {context}" if context else "a Dockerfile"
    source: dict[str, Any] = {"fileobj": io.BytesIO(dockerfile.encode())}
    if context:
        source = {"path": context, "dockerfile": os.path.join(context, dockerfile)}
    _log.info("building %s", where)
    last = made = ""
    try:
        steps = api.build(
            **source,
            tag=tag,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=seconds,
            nocache=fresh,
            network_mode=None if network else "none",
        )
        for step in steps:
            if "error" in step:
                raise SandboxStartError(
                    f"building {where} failed: {step['error']} (last of its output: "
                    f"{last.strip()[-500:]})",
                    retryable=False,
                )
            last = step.get("stream") or last
            made = (step.get("aux") or {}).get("ID") or made
    except engine.FAILURES as error:
        raise SandboxStartError(f"building {where} failed: {error}", retryable=False) from error
    return made


def folder_of(provider: str, image: str) -> str:
    """An image's own working folder, ``/`` where it states none. Raises SandboxStartError."""
    try:
        found = _engine_of(provider).inspect_image(image)
    except engine.FAILURES as error:
        raise SandboxStartError(f"no image {image}: {error}", retryable=False) from error
    return str((found.get("Config") or {}).get("WorkingDir") or "/")


def _engine_of(provider: str) -> Any:
    """The engine's client."""
    wall = stockade.provider(provider).wall
    if "engine" not in wall.options:
        raise UnsupportedError(
            f"{provider.partition('?')[0]} builds no Dockerfile; build it yourself and name the "
            "image."
        )
    return engine.client(wall.chosen.get("engine"))
