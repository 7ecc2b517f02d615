"""One request's head: judged, and written anew with the values in it (E11).

The code in the sandbox writes it, and h11 reads it. What goes to the server is not what was
read but what it was read as, so the server has nothing to read in another way; what says one
thing twice, or names another host, method or path than the request line, is refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

import attrs
import h11

from stockade.config import Secret
from stockade.toolkit.egress import RefusedError
from stockade_secrets.paths import matches
from stockade_secrets.placeholders import Placeholders

__all__ = ["Draft", "Place"]

_Header = tuple[bytes, bytes]

_TARGET = re.compile(r"/[!\"$-~]*\Z|\*\Z")
#: Of the connection to the gateway alone, or written by the gateway itself.
_DROPPED = frozenset(
    {
        "host",
        "connection",
        "proxy-connection",
        "proxy-authorization",
        "keep-alive",
        "http2-settings",
        "te",
        "trailer",
        "upgrade",
        # Part of an answer could bring back part of a value, which nobody would know.
        "range",
        "if-range",
        # Compressed frames cannot be looked into.
        "sec-websocket-extensions",
        # What says which host was asked for, before a proxy took the request over: none did.
        "forwarded",
        "x-original-host",
        "x-host",
    }
)
_CLAIMS = "x-forwarded-"
#: Servers take these for the method or the path.
_OVERRIDES = frozenset(
    {
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)
#: In a secret's format.
_VALUE = "{value}"
_CONNECTION = frozenset({"close", "keep-alive", "upgrade", "te", "http2-settings"})
_READABLE = ("gzip", "x-gzip", "deflate", "identity")
#: One reading of these in capitals, dashes and underscores is the frame's or the host's.
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade"})


@attrs.frozen
class Place:
    """The host that a tunnel leads to, and its secrets."""

    name: str
    port: int
    secrets: Sequence[Secret]

    @property
    def authority(self) -> str:
        return self.name if self.port == 443 else f"{self.name}:{self.port}"


class Draft:
    """A request as a program sent it, and which secrets it asks for.

    Raises RefusedError for what is not passed on.
    """

    def __init__(self, request: h11.Request, place: Place, placeholders: Placeholders) -> None:
        self._place = place
        self._placeholders = placeholders
        self.method = request.method.decode("ascii")
        self._target = request.target.decode("latin-1")
        self._fields = [(_plain(name), name, value) for name, value in request.headers.raw_items()]
        self.websocket = False
        self._check_line()
        self._check_fields()
        #: By the secret's name what is put in its placeholder's place: a function of the value.
        self._target_of: dict[str, Callable[[str], str]] = {}
        self._field_of: dict[int, tuple[str, Callable[[str], bytes]]] = {}
        self._look()

    @property
    def path(self) -> str:
        """Without the query."""
        return self._target.partition("?")[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of those that it carries."""
        used = {*self._target_of, *(name for name, _ in self._field_of.values())}
        return tuple(sorted(used))

    def filled(self, values: Mapping[str, str]) -> h11.Request:
        """The request for the server, with the values of ``secrets``."""
        target = self._target
        for name, write in self._target_of.items():
            target = write(values[name])
        headers: list[_Header] = [(b"Host", self._place.authority.encode("ascii"))]
        for number, (plain, field, value) in enumerate(self._fields):
            if plain in _DROPPED or plain.startswith(_CLAIMS):
                continue
            if number in self._field_of:
                secret, put = self._field_of[number]
                headers.append((field, put(values[secret])))
            else:
                headers.append((field, _readable(value) if plain == "accept-encoding" else value))
        if self.websocket:
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        return h11.Request(method=self.method, target=target.encode("latin-1"), headers=headers)

    # -- what is refused whatever it carries -----------------------------------------

    def _check_line(self) -> None:
        if self.method in ("CONNECT", "TRACE"):
            raise RefusedError(f"{self.method} is not carried in a tunnel to {self._place.name}")
        if not _TARGET.match(self._target) or (self._target == "*" and self.method != "OPTIONS"):
            raise RefusedError("expected a path as the request's target, such as /api?x=1")

    def _check_fields(self) -> None:
        names = [plain for plain, _, _ in self._fields]
        for plain, name, value in self._fields:
            if plain in _FRAMING and b"_" in name:
                raise RefusedError(f"the header {name.decode()!r} reads as another: leave it out")
            if plain == "host":
                self._check_host(value.decode("latin-1").lower())
            elif plain == "connection":
                _check_connection(value)
            elif plain == "expect" and value.strip().lower() != b"100-continue":
                raise RefusedError("expected 100-continue as the header Expect")
            elif plain == "upgrade":
                self.websocket = value.strip().lower() == b"websocket"
        for one in ("host", "content-length", "transfer-encoding", "upgrade"):
            if names.count(one) > 1:
                raise RefusedError(f"expected the header {one} once")
        if "content-length" in names and "transfer-encoding" in names:
            raise RefusedError("expected Content-Length or Transfer-Encoding, and not both")

    def _check_host(self, host: str) -> None:
        allowed = {self._place.authority, f"{self._place.name}:{self._place.port}"}
        if host not in allowed:
            raise RefusedError(
                f"the tunnel is to {self._place.authority}, and the request in it is for "
                f"{host!r:.80}"
            )

    # -- where the placeholders stand -------------------------------------------------

    def _look(self) -> None:
        for name in self._placeholders.found(self._target.encode("latin-1")):
            secret = self._own(name)
            if secret.query is None:
                raise _misplaced(secret, "the address")
            self._target_of[name] = self._in_query(secret)
            self._allow(secret)
        for number, (plain, field, value) in enumerate(self._fields):
            for holder in self._placeholders.found(value + b"\n" + field):
                secret = self._own(holder)
                if number in self._field_of:
                    raise RefusedError(f"two secrets stand in the header {plain}")
                self._field_of[number] = holder, self._in_field(secret, plain, value)
                self._allow(secret)
        if len({name for name, _ in self._field_of.values()} | {*self._target_of}) < (
            len(self._field_of) + len(self._target_of)
        ):
            raise RefusedError("expected a secret once in a request, and it stands there twice")

    def _own(self, name: str) -> Secret:
        for secret in self._place.secrets:
            if secret.name == name:
                return secret
        raise RefusedError(
            f"the placeholder of the secret {name!r} goes to {self._place.name}, which is not "
            "among its hosts"
        )

    def _allow(self, secret: Secret) -> None:
        if secret.methods and self.method not in secret.methods:
            raise RefusedError(f"the secret {secret.name!r} is not for {self.method}")
        if secret.paths and not matches(self.path, secret.paths):
            raise RefusedError(f"the secret {secret.name!r} is not for the path {self.path!r:.80}")
        if secret.methods or secret.paths:
            for plain, name, _ in self._fields:
                if plain in _OVERRIDES:
                    raise RefusedError(
                        f"the header {name.decode()!r} names another method or path than the "
                        f"request, and the secret {secret.name!r} is for some alone"
                    )

    def _in_query(self, secret: Secret) -> Callable[[str], str]:
        path, _, query = self._target.partition("?")
        placeholder = self._placeholders.by_name[secret.name]
        parts = [part.partition("=") for part in query.split("&")]
        own = [number for number, (name, _, _) in enumerate(parts) if name == secret.query]
        if len(own) != 1 or parts[own[0]][2] != placeholder or query.count(placeholder) != 1:
            raise _misplaced(secret, "the address")
        if placeholder in path:
            raise _misplaced(secret, "the path")

        def write(value: str) -> str:
            texts = [f"{name}{equals}{text}" for name, equals, text in parts]
            texts[own[0]] = f"{secret.query}={quote(value, safe='')}"
            return f"{path}?{'&'.join(texts)}"

        return write

    def _in_field(self, secret: Secret, plain: str, value: bytes) -> Callable[[str], bytes]:
        if sum(name == plain for name, _, _ in self._fields) > 1:
            raise RefusedError(f"expected the header {plain} once, since a secret stands in it")
        text = value.decode("latin-1")
        placeholder = self._placeholders.by_name[secret.name]
        scheme, _, rest = text.partition(" ")
        if secret.basic and plain == "authorization" and scheme.lower() == "basic":
            return _in_basic(secret, rest.strip(), placeholder)
        if secret.header is None or plain != _plain(secret.header.encode("ascii")):
            raise _misplaced(secret, f"the header {plain}")
        if secret.format is not None and text != secret.format.replace(_VALUE, placeholder):
            shown = secret.format.replace(_VALUE, f"${secret.env}")
            raise RefusedError(f"expected the header {secret.header}: {shown}")
        if text.count(placeholder) != 1:
            raise _misplaced(secret, f"the header {plain}")
        return lambda found: text.replace(placeholder, found).encode("latin-1")


def _in_basic(secret: Secret, encoded: str, placeholder: str) -> Callable[[str], bytes]:
    try:
        plain = base64.b64decode(encoded, validate=True).decode("utf-8")
    except ValueError:  # of base64 as of UTF-8, and of what is not ASCII
        raise RefusedError("expected base64 of a user and a password behind Basic") from None
    user, colon, password = plain.partition(":")
    if not colon or [user, password].count(placeholder) != 1:
        raise _misplaced(secret, "basic authentication: it is to be the user or the password")

    def write(value: str) -> bytes:
        both = (value if part == placeholder else part for part in (user, password))
        return b"Basic " + base64.b64encode(":".join(both).encode("utf-8"))

    return write


def _misplaced(secret: Secret, where: str) -> RefusedError:
    places = [
        secret.header and f"the header {secret.header}",
        secret.basic and "basic authentication",
        secret.query and f"the query's {secret.query}",
    ]
    belongs = " or ".join(place for place in places if place)
    return RefusedError(
        f"the placeholder of the secret {secret.name!r} stands in {where}; it belongs in {belongs}"
    )


def _check_connection(value: bytes) -> None:
    words = {word.strip().lower() for word in value.decode("latin-1").split(",")}
    if not words <= {*_CONNECTION, ""}:
        raise RefusedError(f"the header Connection names headers: {', '.join(sorted(words)):.80}")


def _plain(name: bytes) -> str:
    """As servers compare names; those behind CGI's variables read ``_`` as ``-``."""
    return name.decode("latin-1").lower().replace("_", "-")


def _readable(value: bytes) -> bytes:
    """Of the encodings that a program takes those that can be looked into."""
    words = [word.strip() for word in value.decode("latin-1").split(",")]
    kept = [word for word in words if word.partition(";")[0].strip().lower() in _READABLE]
    return ", ".join(_several(kept)).encode("latin-1")


def _several(words: Iterable[str]) -> list[str]:
    return list(words) or ["identity"]
