"""The image of a task: its own, with the folders that Harbor uses open to the sandbox's user."""

from __future__ import annotations

import hashlib
import shlex
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from stockade_docker import building

__all__ = ["made"]

#: What Harbor writes to, as its EnvironmentPaths have it.
_FOLDERS = ("/logs/agent", "/logs/verifier", "/logs/artifacts", "/tests", "/solution")
#: By image: trials of one task want the same at the same time.
_locks: dict[str, threading.Lock] = {}


def made(
    provider: str,
    name: str,
    *,
    environment: Path,
    image: str | None,
    folder: str | None,
    more: Collection[str],
    seconds: float,
    fresh: bool,
) -> tuple[str, str]:
    """The image's tag and the folder in which its commands start; blocking.

    ``image`` is the task's own, else its Dockerfile in ``environment`` is built. Harbor's
    folders, ``more`` and the working folder are made, and anybody may write there, since no
    session's user is root. Raises UnsupportedError, SandboxStartError.
    """
    given = (environment, image, name, folder, *sorted(more))
    key = hashlib.sha256("\0".join(map(str, given)).encode()).hexdigest()[:16]
    with _locks.setdefault(key, threading.Lock()):
        if image is None:
            source: dict[str, Any] = {"context": str(environment), "dockerfile": "Dockerfile"}
        else:  # so that the engine fetches it where it is not there
            source = {"dockerfile": f"FROM {image}\n"}
        task = building.build(provider, None, **source, seconds=seconds, fresh=fresh)
        start = folder or building.folder_of(provider, task)
        places = dict.fromkeys((*_FOLDERS, *more, *([start] if start != "/" else [])))
        words = " ".join(shlex.quote(place) for place in places)
        text = f"FROM {task}\nUSER root\nRUN mkdir -p {words} && chmod -R a+rwX {words}\n"
        tag = f"stockade-harbor/{key}"
        building.build(provider, tag, dockerfile=text, seconds=seconds, network=False)
    return tag, start
