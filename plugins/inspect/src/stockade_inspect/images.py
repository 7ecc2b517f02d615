"""Images that are made of a Dockerfile, by the engine that runs them."""

from __future__ import annotations

import hashlib
import os
import threading

import attrs

from stockade.errors import UnsupportedError
from stockade.system.installing import install
from stockade_inspect.wanted import Build, Wanted

__all__ = ["built"]

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
                _make(text, build, _tag(build))
            _done[key] = _tag(build)
    return attrs.evolve(wanted, build=None, image=_done[key])


def _tag(build: Build) -> str:
    place = os.path.abspath(os.path.join(build.context, build.dockerfile))
    return f"stockade-inspect/{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def _make(text: str, build: Build, tag: str) -> None:
    try:
        from stockade_docker import building
    except ImportError:
        raise UnsupportedError(
            f"a Dockerfile is built by a container engine; run: {install('stockade-docker')}"
        ) from None
    building.build(text, tag, context=build.context, dockerfile=build.dockerfile)
