"""Which service: its URLs, its key, what its errors mean, and where it is (C9)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from stockade.errors import ConfigError, ProviderUnavailableError, SandboxStartError
from stockade.toolkit.anew import Anew
from stockade.wall import Place

__all__ = ["CLOUD", "Service", "failed_start", "is_cloud", "is_gone", "is_refused", "words_of"]

#: E2B's own domain, where no other is named.
CLOUD = "e2b.app"
_KEY = "E2B_API_KEY"
#: Statuses whose cause may be over in a moment.
_SOON = (429, 500, 502, 503, 504)
#: What the SDK speaks HTTP by keeps threads for the whole process.
_anew = Anew("pyqwest._pyqwest", "connectrpc", "e2b")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@attrs.frozen(kw_only=True)
class Service:
    """How one is reached, resolved from options and environment."""

    domain: str
    api_url: str | None  #: None: the domain's own
    sandbox_url: str | None  #: None: the domain's own
    key: str = attrs.field(repr=False)

    @classmethod
    def of(cls, chosen: Mapping[str, Any]) -> Service:
        """By a provider string's options, else the SDK's variables. Raises ConfigError."""
        domain, api_url, sandbox_url = _addresses(chosen)
        return cls(
            domain=domain,
            api_url=api_url,
            sandbox_url=sandbox_url,
            key=_key(chosen["key_file"]),
        )

    @property
    def options(self) -> dict[str, Any]:
        """What every call of the SDK's takes, whatever its own variables say by then."""
        found = {
            "api_key": self.key,
            "domain": self.domain,
            "api_url": self.api_url or f"https://api.{self.domain}",
            "debug": False,
        }
        return found if self.sandbox_url is None else {**found, "sandbox_url": self.sandbox_url}

    @property
    def name(self) -> str:
        """For people."""
        return self.api_url or self.domain

    # -- where it is (C9) ------------------------------------------------------------

    @property
    def place(self) -> Place:
        """Its address and whose account: two keys may list different sandboxes."""
        account = hashlib.sha256(self.key.encode()).hexdigest()[:16]
        parts = (self.domain, self.api_url or "", self.sandbox_url or "", account)
        word = " ".join(part or "-" for part in parts)
        host = urlsplit(self.api_url or "").hostname
        return Place.here(word) if host in _LOOPBACK else Place.anywhere(word)

    def at(self, place: Place) -> Service:
        """The service of a place that ``place`` said, by this one's key.
        Raises ProviderUnavailableError."""
        parts = [None if part == "-" else part for part in place.word.split(" ")]
        if len(parts) == 4 and parts[0] is not None:
            there = attrs.evolve(self, domain=parts[0], api_url=parts[1], sandbox_url=parts[2])
            if there.place.word == place.word:
                return there
        raise ProviderUnavailableError(
            f"the sandbox lives at {parts[1] or parts[0]}, in the account of another key; set "
            f"{_KEY}, or the option key_file, as it was when the session was opened."
        )


def is_cloud(chosen: Mapping[str, Any]) -> bool:
    """Whether options and environment lead to E2B's own service."""
    return _addresses(chosen) == (CLOUD, None, None)


def _addresses(chosen: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    """Domain, and the URLs of the API and of sandboxes where they are not the domain's."""
    domain: str | None = chosen["domain"]
    api_url: str | None = chosen["api_url"]
    sandbox_url: str | None = chosen["sandbox_url"] or api_url
    if domain is None and api_url is None:  # the string names no service
        api_url = os.environ.get("E2B_API_URL") or None
        sandbox_url = sandbox_url or os.environ.get("E2B_SANDBOX_URL") or api_url
    return domain or os.environ.get("E2B_DOMAIN") or CLOUD, api_url, sandbox_url


def _key(file: str | None) -> str:
    if file is None:
        found = os.environ.get(_KEY, "")
        where = _KEY
    else:
        where = f"key_file={file!r:.200}"
        try:
            with open(file, encoding="utf-8") as opened:
                found = opened.read(4096)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where}: the key cannot be read: {error}.") from None
    found = found.strip()
    if not found:
        raise ConfigError(
            f"{where} holds no API key; set {_KEY}, or name a file that holds it: key_file=PATH."
        )
    return found


# -- what its errors mean ------------------------------------------------------------


def words_of(error: BaseException) -> str:
    """In one line; the SDK's may have many."""
    return " ".join(f"{error}".split())[:500] or type(error).__name__


def is_gone(error: BaseException) -> bool:
    """Whether it says for sure that the sandbox is no more."""
    from e2b.exceptions import NotFoundException, SandboxNotRunningException

    return isinstance(error, (NotFoundException, SandboxNotRunningException))


def is_refused(error: BaseException) -> bool:
    """Whether the service understood, and does not do what it was asked for."""
    return getattr(error, "status_code", None) == 400


def failed_start(what: str, error: BaseException) -> SandboxStartError:
    """What the caller is to know of a failed opening: whether trying again may help."""
    from e2b.exceptions import AuthenticationException, RateLimitException, ServiceBusyException

    words = f"{what}: {words_of(error)}"
    if isinstance(error, AuthenticationException):
        return SandboxStartError(
            f"{words}. The service does not know the key: set {_KEY} or key_file.",
            retryable=False,
        )
    busy = isinstance(error, (RateLimitException, ServiceBusyException))
    status = getattr(error, "status_code", None)
    soon = busy or status is None or status in _SOON
    return SandboxStartError(words, retryable=soon, nothing_began=busy or _unreached(error))


def _unreached(error: BaseException) -> bool:
    import httpx

    return isinstance(error, (httpx.ConnectError, ConnectionRefusedError))
