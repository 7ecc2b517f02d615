"""Streamable HTTP: keys, and a sandbox for each of the protocol's sessions."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import Context
from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.responses import JSONResponse

from stockade.errors import ConfigError
from stockade_mcp.client import Behind, Client
from stockade_mcp.tools import make_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["check_place", "keys_of", "make_app"]

_SHORTEST_KEY = 16
#: Where the SDK, given one of these hosts, refuses what a page of a browser sends.
_GUARDED = ("127.0.0.1", "::1", "localhost")
_CLIENT = "stockade_mcp.client"
_VERSION = b"mcp-protocol-version"


def keys_of(text: str) -> list[str]:
    """The keys of a text, one a line; lines that begin with ``#`` are none. Raises ConfigError."""
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if any(len(key) < _SHORTEST_KEY or not key.isascii() for key in keys):
        raise ConfigError(f"a key has {_SHORTEST_KEY} ASCII characters or more, one a line.")
    return keys


def check_place(host: str, keys: Sequence[str], insecure: bool) -> None:
    """Refuse to serve whoever comes: without keys on loopback alone, and there when asked to.

    Raises ConfigError.
    """
    if keys:
        return
    if not insecure:
        raise ConfigError("HTTP needs a key: --key-file, or STOCKADE_MCP_KEY in the environment.")
    if host not in _GUARDED:
        raise ConfigError(
            f"--insecure serves on loopback alone, and {host!r} is none of {', '.join(_GUARDED)}."
        )


def make_app(
    behind: Behind,
    *,
    keys: Sequence[str] = (),
    insecure: bool = False,
    host: str = "127.0.0.1",
    most_clients: int = 16,
    idle_seconds: float = 1800.0,
) -> ASGIApp:
    """An ASGI application at ``/mcp`` for ``host``. Raises ConfigError without a key, unless
    ``insecure`` and on loopback.

    A client that is silent for ``idle_seconds`` has left; one more than ``most_clients`` is
    refused (503).
    """
    check_place(host, keys, insecure)
    server = make_server(lambda context: _client_of(context, behind), behind)
    inner = server.streamable_http_app(
        host=host, max_sessions=most_clients, session_idle_timeout=idle_seconds
    )
    return _Guarded(inner, keys)


def _client_of(context: Context[Any, Any], behind: Behind) -> Client:
    # The SDK gives a handler no public way to its connection, whose end is the client's.
    connection = context.session._connection
    client: Client | None = connection.state.get(_CLIENT)
    if client is None:
        client = connection.state[_CLIENT] = Client(behind)
        connection.exit_stack.push_async_callback(client.close)
    return client


class _Guarded:
    """Lets in who has a key, to a protocol that has sessions."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self._let_in(scope) or _sessionless(scope)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> JSONResponse | None:
        if not self._keys:
            return None
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        digest = _digest(given.strip())
        # All of them are compared, each in constant time.
        same = [hmac.compare_digest(digest, key) for key in self._keys]
        if scheme.lower() != b"bearer" or not any(same):
            needed = {"www-authenticate": "Bearer"}
            return JSONResponse({"error": "a key is needed"}, status_code=401, headers=needed)
        # By this the SDK keeps one key's sessions from another's.
        token = AccessToken(token="", client_id=f"key {same.index(True)}", scopes=[])
        scope["user"] = AuthenticatedUser(token)
        return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _sessionless(scope: Scope) -> JSONResponse | None:
    """From 2026-07-28 on each HTTP request stands alone, and a sandbox would have no end: who
    asks for that is offered what has sessions, as the protocol provides."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == _VERSION]
    asked = [version for version in given if version not in HANDSHAKE_PROTOCOL_VERSIONS]
    if not asked:
        return None
    error = {
        "code": UNSUPPORTED_PROTOCOL_VERSION,
        "message": "a sandbox needs a session: begin with initialize",
        "data": {"supported": list(HANDSHAKE_PROTOCOL_VERSIONS), "requested": asked[0][:64]},
    }
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=400)
