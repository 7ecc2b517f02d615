"""The options that a provider string of a container wall may set, and what each must be."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stockade.wall import Option
from stockade_docker import images, seccomp
from stockade_docker.create import SHM_MB

__all__ = ["OPTIONS"]


def _pull(text: str) -> str:
    if text not in images.PULL_POLICIES:
        raise ValueError("one of missing, always, never is needed")
    return text


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise ValueError("seconds from 1 to 86400 are needed")
    return value


def _megabytes(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise ValueError("a whole number of MiB is needed")
    return int(text)


def _seccomp(text: str) -> str:
    if text != seccomp.ENGINE and not os.path.isabs(text):
        raise ValueError("engine, or the absolute path of a profile in JSON, is needed")
    return text


def _apparmor(text: str) -> str:
    if (
        text == "unconfined"
        or not text.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise ValueError("the name of an AppArmor profile is needed, and not unconfined")
    return text


OPTIONS: Mapping[str, Option] = {
    "engine": Option(
        str,
        None,
        "a docker context's name or a URL (unix://, tcp://, ssh://); else DOCKER_HOST, "
        "DOCKER_CONTEXT or the current context",
    ),
    "pull": Option(_pull, "missing", "when an image is pulled: missing, always or never"),
    "pull_seconds": Option(_seconds, 600.0, "how long a pull may take"),
    "seccomp": Option(
        _seccomp,
        None,
        "the filter of system calls: a profile's path, or engine for the engine's own; else "
        "stockade's own",
    ),
    "apparmor": Option(
        _apparmor,
        None,
        "an AppArmor profile of the engine's machine; else docker-default",
    ),
    "shm_mb": Option(_megabytes, SHM_MB, "MiB of /dev/shm"),
}
