"""Who looks at the page: logins by key, and what tells the page's own requests from others'."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import attrs
from starlette.requests import Request
from starlette.responses import Response

from stockade_server.errors import Refused
from stockade_server.keys import Key, owner_of, same

__all__ = ["COOKIES", "Login", "Logins", "check_origin"]

_SECONDS = 12 * 3600.0
_MOST = 1000
#: With TLS, and without: browsers let no other host set, and no plain request read, the first.
COOKIES = ("__Host-stockade", "stockade")


@attrs.frozen
class Login:
    """One browser's."""

    owner: str
    guard: str = attrs.field(repr=False)  #: which a page of another origin does not know
    until: float  #: by the clock


class Logins:
    """Those of one server; they end with it. A browser keeps a random word, and not the key."""

    def __init__(
        self, keys: Mapping[str, Key], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._clock = clock
        #: By the word's digest; the oldest first.
        self._known: OrderedDict[bytes, Login] = OrderedDict()

    def enter(self, request: Request, key: str, response: Response) -> None:
        """Have the response set the cookie. Raises Refused for what is no key."""
        owner = owner_of(key, self._keys)
        if owner is None:
            raise Refused(401, "there is no such API key; the operator makes them")
        word = secrets.token_urlsafe(32)
        until = self._clock() + _SECONDS
        self._known[_digest(word)] = Login(owner, secrets.token_urlsafe(32), until)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        _set(request, response, word, int(_SECONDS))

    def of(self, request: Request) -> Login | None:
        """The login of a request's cookie."""
        digest = _digest(request.cookies.get(_cookie(request), ""))
        login = self._known.get(digest)
        if login is not None and login.until < self._clock():
            del self._known[digest]
            return None
        return login

    def leave(self, request: Request, response: Response) -> None:
        """Forget it, here and in the browser."""
        self._known.pop(_digest(request.cookies.get(_cookie(request), "")), None)
        _set(request, response, "", 0)


def check_origin(request: Request, guard: str | None = None) -> None:
    """Raises Refused for a request that changes something and is not of the page's own making.

    A cookie that is SameSite goes along from a page of the same site, such as one that a sandbox
    serves below the server's own domain; so the origin must be the same, and named. ``guard`` is
    what the page must know besides.
    """
    origin, fetched = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin != own or fetched not in (None, "same-origin"):
        raise Refused(403, "the request does not come from this server's own page")
    if guard is not None and not same(request.headers.get("x-stockade-guard", ""), guard):
        raise Refused(403, "the request does not come from this server's own page; load it anew")


def _digest(word: str) -> bytes:
    return hashlib.sha256(word.encode("utf-8", "surrogateescape")).digest()


def _cookie(request: Request) -> str:
    return COOKIES[0] if request.url.scheme == "https" else COOKIES[1]


def _set(request: Request, response: Response, word: str, seconds: int) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(
        _cookie(request), word, seconds, path="/", secure=secure, httponly=True, samesite="strict"
    )
