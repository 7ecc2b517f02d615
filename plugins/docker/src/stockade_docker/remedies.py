"""Why an engine cannot be reached, and what mends that: one remedy for each cause (A8)."""

from __future__ import annotations

import os
import platform
import ssl
from socket import gaierror

import requests
from docker.errors import TLSParameterError

from stockade_docker.engine import caused_by

__all__ = ["explain_start", "remedy"]

_INSTALL = "apt-get install docker.io, or start its service: systemctl start docker"
_DESKTOP = "install and start Docker Desktop, or set DOCKER_HOST"


def remedy(error: BaseException, engine: str | None) -> str:
    """What mends it. ``engine`` is the option's value, or None where there is none."""
    origin = _origin(engine)
    if caused_by(error, TLSParameterError, ssl.SSLError):
        return (
            "look at the certificates: ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, made by "
            "the engine's authority"
        )
    if caused_by(error, PermissionError):
        return (
            "your user may not use the engine's socket: add it to the socket's group (usermod -aG "
            "docker $USER, then log in anew), or take an engine of your own (rootless)"
        )
    if caused_by(error, gaierror):
        return f"no machine has that name: correct {origin}"
    if caused_by(error, FileNotFoundError, NotADirectoryError):
        missing = f"there is no such socket: correct {origin}, or start the engine that makes it"
        return _start() if origin == _DEFAULT else missing
    if caused_by(error, ConnectionRefusedError):
        refused = f"nobody listens there: start the engine, or correct {origin}"
        return "start its service: systemctl start docker" if origin == _DEFAULT else refused
    return _by_words(error, origin)


def _by_words(error: BaseException, origin: str) -> str:
    words = str(error).lower()
    if "https server" in words:
        return "the engine speaks TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
    if "path too long" in words:
        return f"a socket's path may have 107 bytes: correct {origin}, or make a short link"
    if "no docker context" in words:
        return "docker context ls lists those there are; docker context create makes one"
    if "bind address" in words or "is needed, and no more" in words or "named pipe" in words:
        return f"correct {origin}: unix://PATH, tcp://HOST:PORT or ssh://USER@HOST is needed"
    if caused_by(error, requests.exceptions.Timeout, TimeoutError):
        return "the engine takes connections and does not answer: restart its service"
    if "ssh" in origin:
        return f"try `docker -H {origin.partition('=')[2]} version`, and mend what it says"
    return f"what answers there is no engine: correct {origin}" if origin != _DEFAULT else _start()


_DEFAULT = "the default socket"


def _origin(engine: str | None) -> str:
    """Where the address comes from."""
    if engine is not None:
        return f"the option engine={engine}"
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        if os.environ.get(name):
            return f"{name}={os.environ[name]}"
    return _DEFAULT


def _start() -> str:
    return _INSTALL if platform.system() == "Linux" else _DESKTOP


#: Programs that an engine runs itself, and what brings them: by the word in its error.
_PROGRAMS = {
    "iptables": "apt-get install iptables",
    "ip6tables": "apt-get install iptables",
    "nft": "apt-get install nftables",
    "docker-init": "apt-get install docker.io tini, or set init-path in the engine's daemon.json",
    "catatonit": "apt-get install catatonit",
    "runc": "apt-get install runc",
    "crun": "apt-get install crun",
    "netavark": "apt-get install netavark",
    "newuidmap": "apt-get install uidmap",
}


def explain_start(words: str) -> str:
    """What mends an engine's own lack, as it says it when a container is made; else empty."""
    low = words.lower()
    if "not found" not in low and "no such file" not in low and "could not find" not in low:
        return ""
    for program, line in _PROGRAMS.items():
        if f'"{program}"' in low or f"/{program}" in low or f"{program}:" in low:
            return f"the engine's machine lacks {program}: {line} there"
    return ""
