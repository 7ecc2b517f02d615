"""Images: references that make sense, and having them there in time."""

from __future__ import annotations

import json
import logging
import re
import time
import weakref
from collections.abc import Iterator
from typing import Any

import docker
import requests
from docker import auth
from docker.errors import DockerException

from stockade.errors import ConfigError, SandboxStartError
from stockade_docker.engine import FAILURES

__all__ = ["DEFAULT_IMAGE", "PULL_POLICIES", "check_reference", "fetch", "machine"]

_log = logging.getLogger(__name__)

#: Seconds between two reports of progress.
_PROGRESS_SECONDS = 2.0
DEFAULT_IMAGE = "python:3.12-slim"
PULL_POLICIES = ("missing", "always", "never")

#: What images say, and what kernels do.
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_machines: weakref.WeakKeyDictionary[docker.APIClient, dict[str, str]] = weakref.WeakKeyDictionary()

# The grammar of references, as registries have it: [host[:port]/]path[:tag][@digest].
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"{_WORD}(?:\.{_WORD})*(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?:{_HOST})/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?\Z"
)
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}\Z")


def check_reference(reference: str) -> str:
    """Return it, or raise ConfigError where it is no image reference."""
    if len(reference) <= 512 and (_ID.match(reference) or _REFERENCE.match(reference)):
        return reference
    raise ConfigError(
        f"image {reference!r:.100} is no image reference: write name, name:tag, name@digest or "
        "registry.example/name:tag."
    )


def machine(api: docker.APIClient, reference: str) -> str:
    """The architecture of an image on the engine, as the kernel calls it; looked at once.

    Raises ImageNotFound, and one of FAILURES.
    """
    known = _machines.setdefault(api, {})
    if reference not in known:
        word = str(api.inspect_image(reference).get("Architecture") or "")
        # An image that was imported from a plain archive may say nothing: the engine's own.
        known[reference] = _ARCHITECTURES.get(word, word) or _of_engine(api)
    return known[reference]


def _of_engine(api: docker.APIClient) -> str:
    word = str(api.version().get("Arch") or "")
    return _ARCHITECTURES.get(word, word)


def fetch(api: docker.APIClient, reference: str, policy: str, seconds: float) -> None:
    """Pull an image that the engine lacks, as ``policy`` says, within ``seconds``.

    Raises SandboxStartError, saying what to do.
    """
    if policy == "never":
        raise SandboxStartError(
            f"image {reference!r} is not on the engine and pull=never; "
            f"run: docker pull {reference}, or leave the option pull out.",
            retryable=False,
        )
    until = time.monotonic() + seconds
    _log.warning("pulling image %s", reference)
    try:
        for step in _steps(api, reference, until):
            _log.warning("pulling %s: %s", reference, step)
    except (TimeoutError, requests.exceptions.Timeout) as error:
        raise SandboxStartError(
            f"image {reference!r} was not pulled within {seconds:g} s; raise the option "
            "pull_seconds, or pull it beforehand.",
            retryable=True,
        ) from error
    except FAILURES as error:
        raise SandboxStartError(
            f"image {reference!r} is not on the engine and cannot be pulled: "
            f"{getattr(error, 'explanation', None) or error}; check its name and the "
            "registry's log-in."
        ) from error
    _log.warning("pulled %s in %.1f s", reference, seconds - (until - time.monotonic()))


def _steps(api: docker.APIClient, reference: str, until: float) -> Iterator[str]:
    """Pull; a line of progress now and then. Ends by closing the connection, whereupon
    the engine stops. Raises TimeoutError, and one of FAILURES."""
    # Not docker-py's `pull`: it knows no time limit, and leaves its connection open.
    connection: Any = api
    response = connection._post(
        connection._url("/images/create"),
        params=_parameters(reference),
        headers=_log_in(api, reference),
        stream=True,
        timeout=_left(until),
    )
    try:
        connection._raise_for_status(response)
        carrier = connection._get_raw_response_socket(response)
        carrier = getattr(carrier, "_sock", carrier)
        reported = time.monotonic()
        for line in response.iter_lines():
            step = json.loads(line)
            if "error" in step:
                raise DockerException(step["error"])
            if time.monotonic() - reported > _PROGRESS_SECONDS:
                reported = time.monotonic()
                words = (step.get("id"), step.get("status"), step.get("progress"))
                yield " ".join(word for word in words if word)
            carrier.settimeout(_left(until))
    except requests.exceptions.ConnectionError as error:
        if time.monotonic() >= until - 0.1:  # as a read past its time is reported
            raise TimeoutError from error
        raise
    finally:
        response.close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parameters(reference: str) -> dict[str, str]:
    """The name, and what of it is wanted: a digest stands over a tag."""
    name, _, digest = reference.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return {"fromImage": f"{head}{slash}{last}", "tag": digest or tag or "latest"}


def _log_in(api: docker.APIClient, reference: str) -> dict[str, str]:
    """The registry's log-in, as `docker login` keeps it."""
    registry, _ = auth.resolve_repository_name(_parameters(reference)["fromImage"])
    header: Any = auth.get_config_header(api, registry)
    return {"X-Registry-Auth": header} if header else {}
