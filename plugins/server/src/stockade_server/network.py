"""A caller's rules for a sandbox's network: they take away, and never give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from stockade_server.connect import text_of
from stockade_server.errors import Refused, not_served

__all__ = ["Rules", "check_update", "rules_of"]

_EVERYTHING = ("0.0.0.0/0", "::/0")
_MOST_HOSTS = 100
_DENY = "deny 0.0.0.0/0, which is everything, and allow hosts by their names"


@attrs.frozen
class Rules:
    """What a caller asks for, at a sandbox's creation."""

    offline: bool = False  #: nothing is reached from inside
    #: Hosts that alone are reached, where it is not None.
    hosts: tuple[str, ...] | None = None
    #: Whether ports of the sandbox are reached without its traffic token.
    public: bool = True
    #: In place of the ``Host`` that a caller of a port names; ``${PORT}`` stands for the port.
    host_mask: str | None = None


def rules_of(body: Mapping[str, Any]) -> Rules:
    """From a creation's ``network`` and ``allow_internet_access``. Raises Refused."""
    given = body.get("network") or {}
    if not isinstance(given, dict):
        raise Refused(400, "network is an object")
    _check_unserved(given)
    allowed, denied = _words(given, "allowOut"), _words(given, "denyOut")
    offline, hosts = body.get("allow_internet_access") is False, None
    public = given.get("allowPublicTraffic", True)
    if any(word in _EVERYTHING for word in denied):
        offline, hosts = offline or not allowed, allowed or None
    elif denied:
        raise not_served("denying single addresses", _DENY)
    if hosts is not None and offline:
        raise Refused(400, "allowOut names hosts, and allow_internet_access is false")
    if hosts is not None and any(_is_address(word) for word in hosts):
        raise not_served("allowing addresses and patterns", "name each host")
    mask = text_of(given, "maskRequestHost") if given.get("maskRequestHost") else None
    if mask is not None and not (mask.isascii() and mask.isprintable() and len(mask) < 256):
        raise Refused(400, "maskRequestHost is a host's name")
    return Rules(offline, hosts, public is not False, mask)


def check_update(body: Mapping[str, Any], rules: Rules, network: bool) -> None:
    """Of a sandbox that runs: its network cannot be changed any more.

    Raises Refused unless what is asked for is so already; ``network``: whether it has any.
    """
    _check_unserved(body)
    denies = bool(_words(body, "denyOut")) or body.get("allow_internet_access") is False
    allows = bool(_words(body, "allowOut")) or not denies
    if rules.hosts is None and denies != network and allows == network:
        return
    raise not_served("changing the network of a sandbox that runs", "name it when you create one")


def _check_unserved(given: Mapping[str, Any]) -> None:
    if given.get("egressProxy"):
        raise not_served("a proxy for what goes out", "set https_proxy for the command")
    if given.get("rules"):
        raise not_served("headers put into requests", "pass them to the program that asks")


def _words(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = given.get(name) or ()
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) > _MOST_HOSTS:
        raise Refused(400, f"{name} is a list of {_MOST_HOSTS} texts at most")
    if not all(isinstance(one, str) and len(one) < 256 for one in found):
        raise Refused(400, f"{name} is a list of hosts and addresses")
    return tuple(found)


def _is_address(word: str) -> bool:
    """Anything but a plain name: ``network_allow`` has forms that open more than a name does."""
    plain = word.replace(".", "").replace("-", "")
    return not plain.isalnum() or not word.isascii() or plain.isdigit()
