"""Images that are made of a Dockerfile, by the engine that runs them."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from typing import Any

import attrs

import stockade
from stockade.errors import SandboxStartError, UnsupportedError
from stockade_inspect.wanted import Build, Wanted

__all__ = ["built"]

_log = logging.getLogger(__name__)
_SECONDS = 3600
_lock = threading.Lock()  #: one build at a time: samples of a task want the same
_done: dict[tuple[Build, str], str] = {}


def built(wanted: Wanted) -> Wanted:
    """The same with its image there, in every engine that its walls name; made once a process.

    Raises UnsupportedError, SandboxStartError.
    """
    build = wanted.build
    if build is None:
        return wanted
    key = (build, attrs.evolve(wanted, build=None, image=_tag(build)).preference)
    with _lock:
        if key not in _done:
            for text in key[1].split(" | "):
                _make(_engine_of(text), build, _tag(build))
            _done[key] = _tag(build)
    return attrs.evolve(wanted, build=None, image=_done[key])


def _tag(build: Build) -> str:
    place = os.path.abspath(os.path.join(build.context, build.dockerfile))
    return f"stockade-inspect/{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def _engine_of(text: str) -> Any:
    """The engine's client behind one provider string."""
    try:
        from stockade_docker import engine
    except ImportError:
        raise UnsupportedError(
            "a Dockerfile is built by a container engine; run: pip install stockade-docker"
        ) from None
    wall = stockade.provider(text).wall
    if "engine" not in wall.options:
        raise UnsupportedError(
            f"{text.partition('?')[0]} builds no Dockerfile; build it yourself and name the image."
        )
    return engine.client(wall.chosen.get("engine"))


def _make(api: Any, build: Build, tag: str) -> None:
    _log.info("building %s in %s", build.dockerfile, build.context)
    last = ""
    for step in api.build(
        path=build.context,
        dockerfile=os.path.join(build.context, build.dockerfile),
        tag=tag,
        rm=True,
        decode=True,
        timeout=_SECONDS,
    ):
        if "error" in step:
            raise SandboxStartError(
                f"building {build.dockerfile} in {build.context} failed: {step['error']} (last of "
                f"its output: {last.strip()[-500:]})",
                retryable=False,
            )
        last = step.get("stream") or last
