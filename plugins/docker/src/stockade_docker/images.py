"""Images: references that make sense, and having them there in time."""

from __future__ import annotations

import logging
import re
import time

import docker

from stockade.errors import ConfigError, SandboxStartError
from stockade_docker.engine import FAILURES

__all__ = ["DEFAULT_IMAGE", "PULL_POLICIES", "check_reference", "fetch"]

_log = logging.getLogger(__name__)

DEFAULT_IMAGE = "python:3.12-slim"
PULL_POLICIES = ("missing", "always", "never")

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
    _pull(api, reference, seconds)


def _pull(api: docker.APIClient, reference: str, seconds: float) -> None:
    """Pull, telling progress to the log; gives up in time and leaves the engine to stop."""
    name, _, tag = reference.partition("@")
    if not tag:
        head, slash, last = reference.rpartition("/")
        last, _, tag = last.partition(":")
        name = f"{head}{slash}{last}"
    began = told = time.monotonic()
    _log.warning("pulling image %s", reference)
    try:
        for step in api.pull(name, tag=tag or "latest", stream=True, decode=True):
            if "error" in step:
                raise SandboxStartError(
                    f"image {reference!r} cannot be pulled: {step['error']}; check its name and "
                    "the registry's log-in."
                )
            now = time.monotonic()
            if now - began > seconds:
                raise SandboxStartError(
                    f"image {reference!r} was not pulled within {seconds:g} s; raise the option "
                    "pull_seconds, or pull it beforehand.",
                    retryable=True,
                )
            if now - told > 2.0:
                told = now
                _log.warning(
                    "pulling %s: %s %s",
                    reference,
                    step.get("id", ""),
                    step.get("progress", step.get("status", "")),
                )
    except FAILURES as error:
        raise SandboxStartError(
            f"image {reference!r} is not on the engine and cannot be pulled: "
            f"{getattr(error, 'explanation', None) or error}."
        ) from error
    _log.warning("pulled %s in %.1f s", reference, time.monotonic() - began)
