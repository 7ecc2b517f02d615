"""A server that runs until it is ended."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable

import uvicorn

import stockade
from stockade.errors import ConfigError
from stockade_server.app import make_app
from stockade_server.connections import bounded
from stockade_server.keeping import may_be_durable
from stockade_server.sandboxes import Sandboxes
from stockade_server.settings import Settings

__all__ = ["check", "listen", "serve"]

_MOST_CONNECTIONS = 2000
#: Of these, such as no request is answered on.
_MOST_WAITING = 500
#: That a connection may wait for its next request: longer than the SDKs keep one.
_KEPT_SECONDS = 75
_GRACE_SECONDS = 5
#: How often a caller at a WebSocket is asked whether it is there, and how long it may be silent.
_PING_SECONDS = 20


class _Server(uvicorn.Server):
    """Ends the sandboxes first: then no answer is left to be waited for."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        sandboxes: Sandboxes = self.config.app.state.sandboxes  # type: ignore[union-attr]
        await sandboxes.close()
        await super().shutdown(sockets)


def check(settings: Settings) -> dict[str, str]:
    """What wall stands behind each template. Raises what ``stockade.open`` would."""
    walls = {}
    for name, one in settings.templates.items():
        chosen = stockade.provider(one.provider, check_available=True)
        durable = may_be_durable(one)
        if durable and one.pool:
            raise ConfigError(
                f"the template {name} is durable, and a pool's sandboxes end with the server; "
                "leave its pool out, or durable."
            )
        if durable and settings.state is None:
            raise ConfigError(
                f"the template {name} is durable, and the server keeps no track of sandboxes; "
                'name a folder for that in its file: state = "/var/lib/stockade".'
            )
        walls[name] = chosen.name
    return walls


def listen(settings: Settings) -> socket.socket:
    """The socket at which it is reached. Raises ConfigError, of the certificate's files too."""
    if settings.tls_certificate is not None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the certificate {settings.tls_certificate} cannot be used: {error}; name PEM "
                "files, the key without a password."
            ) from None
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        # Only of a socket that says it is TCP does asyncio turn Nagle's delay off, without
        # which each answer with a body takes 40 ms more.
        server = socket.socket(family, proto=socket.IPPROTO_TCP)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((settings.host, settings.port))
        server.listen(128)
    except OSError as error:
        raise ConfigError(
            f"{settings.host}, port {settings.port}: {error.strerror}; name another with --port."
        ) from None
    return server


def serve(settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; then all sandboxes are ended. ``ready`` is called when
    callers are answered."""
    logging.basicConfig(level=logging.WARNING, format="stockade: %(message)s")
    try:
        app = make_app(settings)
    except OSError as error:
        raise ConfigError(
            f"the log {settings.access_log} cannot be written: {error.strerror}; name another "
            "file as access_log."
        ) from None
    config = uvicorn.Config(
        app,
        http=bounded(_MOST_WAITING, _KEPT_SECONDS + _GRACE_SECONDS),
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # little of it unpacks to much
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEPT_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    ready()  # the socket listens: whoever connects from now on is answered
    _Server(config).run(sockets=[listening])
