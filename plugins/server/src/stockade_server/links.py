"""Signed links to files: whoever has one needs no token, for one path and one operation.

A signature is ``v1_`` and the base64 of SHA-256 over path, operation, user, the sandbox's access
token, and the expiry where there is one. A link need not name its sandbox.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping

from stockade_server.errors import Refused
from stockade_server.keys import same
from stockade_server.sandbox import Sandbox

__all__ = ["is_signed", "signed_one"]

_OPERATIONS = {"GET": "read", "HEAD": "read", "POST": "write"}


def is_signed(query: Mapping[str, str]) -> bool:
    """Whether a request bears a signature, good or not."""
    return "signature" in query


def signed_one(method: str, query: Mapping[str, str], sandboxes: Iterable[Sandbox]) -> Sandbox:
    """The sandbox whose token signed a request. Every one is compared, in constant time.

    Raises Refused where none did, and where the link has expired.
    """
    signed = [query.get("path", ""), _OPERATIONS[method], query.get("username", "")]
    expiry = query.get("signature_expiration")
    end = [] if expiry is None else [expiry]
    presented, found = query["signature"].rstrip("="), None
    for sandbox in sandboxes:
        if same(presented, _signature([*signed, sandbox.access_token, *end])):
            found = sandbox
    if found is None:
        raise Refused(401, "the link's signature is not of this path, operation and sandbox")
    if expiry is not None and (not _is_number(expiry) or int(expiry) < time.time()):
        raise Refused(401, "signature is already expired")  # the SDKs' tests know these words
    return found


def _signature(parts: Iterable[str]) -> str:
    digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
    return "v1_" + base64.b64encode(digest).rstrip(b"=").decode()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 15
