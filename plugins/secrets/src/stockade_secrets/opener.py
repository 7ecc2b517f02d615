"""All secrets of one session: what stands inside for them, and the tunnels to their hosts."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from stockade.config import Secret
from stockade.toolkit.egress import Tunnel
from stockade.wall import OutgoingRequest, RequestEnd, RequestOutcome
from stockade_secrets.authority import Authority, usual_authorities
from stockade_secrets.exchange import Exchange, Keys
from stockade_secrets.masking import Forms
from stockade_secrets.placeholders import Placeholders
from stockade_secrets.requests import Place
from stockade_secrets.ssh import Desk
from stockade_secrets.tls import Tls
from stockade_secrets.vault import Vault

__all__ = ["Opener"]

_log = logging.getLogger(__name__)

_UNTRUSTED = (
    "the program does not trust this session's authority: have it read the bundle that "
    "SSL_CERT_FILE names"
)


class Opener:
    """See :class:`stockade.toolkit.egress.Opener`: one is made for each session with secrets."""

    def __init__(
        self,
        places: Mapping[tuple[str, int], Sequence[Secret]],
        logins: Mapping[tuple[str, int], Sequence[tuple[Secret, str]]] | None = None,
    ) -> None:
        """``places``: by name and port the secrets of a host; ``logins``: the keys that sign
        there, each with a user. Reads every value once, so that one that cannot be read is an
        error before anything starts. Raises SecretError."""
        self._places = places
        self._secrets = secrets = tuple(
            dict.fromkeys(secret for those in places.values() for secret in those)
        )
        self.desk = Desk(logins) if logins else None
        vault = Vault(secrets)
        for secret in secrets:
            vault.value(secret.name)
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._keys = Keys(
            vault=vault,
            forms=Forms(vault.known),
            placeholders=Placeholders(secrets),
            server_context=context,
        )
        self._authority = Authority(name for name, _ in places) if places else None

    @property
    def placeholders(self) -> dict[str, str]:
        """The variables inside."""
        found = self._keys.placeholders.by_name
        return {secret.env: found[secret.name] for secret in self._secrets}

    @property
    def bundle(self) -> bytes:
        """The authorities that programs inside are to trust, in PEM."""
        if self._authority is None:
            return b""
        return f"{usual_authorities().rstrip()}\n{self._authority.pem}".encode()

    @property
    def overlap(self) -> int:
        return self._keys.placeholders.overlap

    def opens(self, name: str, port: int) -> bool:
        return (name, port) in self._places

    def is_host(self, name: str) -> bool:
        return any(known == name for known, _ in self._places)

    def found(self, data: bytes) -> list[str]:
        return self._keys.placeholders.found(data)

    def carry(self, program: socket.socket, rest: bytes, tunnel: Tunnel) -> None:
        """Never raises."""
        assert self._authority is not None, "tunnels to hosts of values alone are opened"
        context = self._authority.context(tunnel.name)
        inside = Tls(program, _for_name(context, tunnel.name), fed=rest)
        place = Place(tunnel.name, tunnel.port, self._places[tunnel.name, tunnel.port])
        began = time.monotonic()
        try:
            inside.handshake(began + tunnel.limits.head_seconds)
        except (OSError, ValueError) as error:  # ssl.SSLError among them
            words = _UNTRUSTED if "UNKNOWN_CA" in str(error) or "BAD_CERT" in str(error) else ""
            asked = OutgoingRequest(host=tunnel.name, port=tunnel.port, method="CONNECT")
            words = words or f"the program's TLS failed: {_reason(error)}"
            _log.info("egress to %s: %s", tunnel.name, words)
            seconds = time.monotonic() - began
            end = RequestEnd(outcome=RequestOutcome.FAILED, seconds=seconds, reason=words)
            tunnel.watch.ended(asked, end)
            return
        Exchange(inside, place, self._keys, tunnel).run()


def _for_name(context: ssl.SSLContext, name: str) -> ssl.SSLContext:
    """The context, which refuses a program that asks for another name than the tunnel's."""

    def check(_: Any, asked: str | None, __: ssl.SSLContext) -> int | None:
        same = asked is not None and asked.lower() == name
        return None if same else int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)

    context.sni_callback = check
    return context


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__
