"""API keys: random, kept as digests alone, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

import attrs

from stockade.errors import ConfigError

__all__ = ["Key", "check_name", "digest_of", "new_key", "owner_of", "same"]

#: Of a key's name, which is the agent id of its sandboxes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def new_key() -> str:
    """A key of 256 random bits, in the form that E2B's tools expect."""
    return f"e2b_{secrets.token_hex(32)}"


def digest_of(key: str) -> str:
    """What is kept of a key. It is random, so a fast hash is as good as a slow one."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def check_name(name: str) -> str:
    """Raises ConfigError for what is no name of a key."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r:.80} is no name of a key: letters, digits, '_', '.' and '-', 64 at most."
        )
    return name


def _check_digest(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ConfigError(
            f"{attribute.name} of a key is 64 hexadecimal digits; `serve key add` writes them."
        )


@attrs.frozen
class Key:
    """Who may call: what is known of one key. Raises ConfigError when built of something else."""

    sha256: str = attrs.field(validator=_check_digest, repr=False)  #: of the whole key
    #: Sandboxes that it may have at one time; None: the server's ``max_sandboxes``.
    max_sandboxes: int | None = None


def owner_of(presented: str, keys: Mapping[str, Key]) -> str | None:
    """The name of the key that was presented, or None. Every key is compared, whole."""
    digest = digest_of(presented)
    found = None
    for name, key in keys.items():
        if hmac.compare_digest(digest, key.sha256):
            found = name
    return found


def same(presented: str, expected: str) -> bool:
    """Whether two tokens are one, in constant time."""
    return hmac.compare_digest(
        presented.encode("utf-8", "surrogateescape"), expected.encode("utf-8")
    )
