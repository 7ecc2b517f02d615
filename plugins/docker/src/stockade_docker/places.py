"""Where an engine is, as a word that leads there again: in another process, later (C9).

What leads to an engine now (an option, DOCKER_HOST, a context, the current one) may lead
elsewhere by then; the engine's address and the files of its certificates do not.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from docker.errors import TLSParameterError
from docker.tls import TLSConfig

from stockade.errors import ProviderUnavailableError
from stockade.wall import Place

__all__ = ["place_of", "settings_of"]

_DEFAULT = "unix:///var/run/docker.sock"
_PASSWORD = re.compile(r"(://[^/@:]*):[^/@]*@")


def place_of(settings: Mapping[str, Any]) -> Place:
    """The place of an engine that a client with these settings reaches."""
    url = _PASSWORD.sub(r"\1@", settings.get("base_url") or _DEFAULT)
    tls = settings.get("tls")
    word = f"{url}?{urlencode(_files(tls))}" if isinstance(tls, TLSConfig) else url
    return Place.here(word) if _is_local(url) else Place.anywhere(word)


def _is_local(url: str) -> bool:
    """Whether the address means another engine on another machine."""
    parts = urlsplit(url)
    if parts.scheme == "ssh":
        return False
    host = parts.hostname if parts.scheme in ("tcp", "http", "https") else None
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _files(tls: TLSConfig) -> dict[str, str]:
    cert, key = tls.cert or ("", "")
    files = {"ca": tls.ca_cert or "", "cert": cert, "key": key}
    said = {name: os.path.abspath(path) for name, path in files.items() if path}
    return {"verify": "1" if tls.verify else "0", **said}


def settings_of(place: Place) -> dict[str, Any]:
    """What a client for that place is made with. Raises ProviderUnavailableError where its
    certificates are no more."""
    url, _, query = place.word.partition("?")
    if not query:
        return {"base_url": url}
    said = {name: values[0] for name, values in parse_qs(query).items()}
    cert = (said["cert"], said.get("key", "")) if "cert" in said else None
    try:
        tls = TLSConfig(client_cert=cert, ca_cert=said.get("ca"), verify=said.get("verify") == "1")
    except TLSParameterError as error:
        raise ProviderUnavailableError(
            f"the certificates for the engine at {url} cannot be used: {error}"
        ) from error
    return {"base_url": url, "tls": tls}
