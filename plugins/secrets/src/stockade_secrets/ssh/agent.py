"""An agent as programs inside know one, that signs for one connection and nothing else.

It lists public keys, and signs a login where all of it is known: that the program's connection is
one that the gateway carries (``session-bind@openssh.com``), to a host that has that key, for a
user that the secret names. It keeps nothing, forgets nothing and locks nothing for anybody.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from collections.abc import Sequence
from typing import Protocol

import attrs
from cryptography.exceptions import InvalidSignature

from stockade.config import Secret
from stockade.errors import SecretError, StockadeError
from stockade.toolkit.egress import Limits, RefusedError
from stockade.wall import OutgoingRequest, RequestEnd, RequestOutcome, RequestWatch
from stockade_secrets.ssh.keys import Key, verify
from stockade_secrets.ssh.wire import Fields, MalformedError, text

__all__ = ["Agent", "Bound", "Holder"]

_log = logging.getLogger(__name__)

#: A login and a bind are some hundred bytes; keys of RSA and signatures make them longer.
_MAX_MESSAGE = 16 * 1024
_FAILURE, _SUCCESS = 5, 6
_LIST, _LISTED = 11, 12
_SIGN, _SIGNED = 13, 14
_EXTENSION = 27
_BIND = b"session-bind@openssh.com"
_LOGIN = 50
_SERVICE = b"ssh-connection"
_PLAIN, _HOSTBOUND = b"publickey", b"publickey-hostbound-v00@openssh.com"
#: In events, where a program asks for a signature and does not say for which host.
_UNKNOWN = "unknown"
_METHOD = "SIGN"


@attrs.frozen(eq=False)
class Bound:
    """A tunnel that the gateway carries, whose server has shown its key."""

    name: str
    port: int
    key: bytes  #: the server's
    signature: bytes  #: of the connection's number, by that key


class Holder(Protocol):
    """What agents of one session share: the keys, and the tunnels that are open."""

    def keys(self, bound: Bound | None) -> Sequence[tuple[Secret, Key]]:
        """Those that may sign in a tunnel; None: in any."""

    def tunnel_of(self, signature: bytes) -> Bound | None:
        """The open tunnel whose server has sent that."""

    def users(self, secret: Secret, bound: Bound) -> Sequence[str]:
        """Whose logins a secret signs there; none where the server's key is not that of a host of
        the secret."""


class Agent:
    """Serves one program's connection."""

    def __init__(self, holder: Holder, watch: RequestWatch) -> None:
        self._holder = holder
        self._watch = watch
        self._bound: Bound | None = None
        self._number = b""  # of the connection that it is bound to

    def serve(self, program: socket.socket, limits: Limits) -> None:
        """Until the program ends, or sends what is no message. Never raises."""
        with contextlib.suppress(OSError, MalformedError):
            program.settimeout(limits.idle_seconds)
            while (message := _message(program)) is not None:
                program.sendall(text(self.answer(message)))

    def answer(self, message: bytes) -> bytes:
        """To one message. Whatever is not known here fails."""
        kind, body = message[0], message[1:]
        try:
            if kind == _LIST:
                Fields(body).end()
                return self._listed()
            if kind == _SIGN:
                return self._sign(body)
            if kind == _EXTENSION:
                self._extend(Fields(body))
                return bytes([_SUCCESS])
        except (MalformedError, InvalidSignature, UnicodeDecodeError) as error:
            _log.info("a program's message to the agent is not as expected: %s", error)
        return bytes([_FAILURE])

    def _listed(self) -> bytes:
        keys = self._holder.keys(self._bound)
        found = [text(key.blob) + text(secret.name.encode()) for secret, key in keys]
        return bytes([_LISTED]) + struct.pack(">I", len(found)) + b"".join(found)

    def _extend(self, fields: Fields) -> None:
        """Bind to a connection: once, and as its client. Raises for what is not so."""
        if fields.text() != _BIND:
            raise MalformedError("an extension that this agent does not have")
        key, number, signature = fields.text(), fields.text(), fields.text()
        forwarding = fields.flag()
        fields.end()
        first = not self._number
        # Whatever comes of it, this connection is not bound to another one later.
        self._number, self._bound = number or b"\0", None
        if forwarding or not first:
            self._refuse("it is to be handed on, or bound twice: a key signs for this session only")
            raise MalformedError("a bind that is not taken")
        bound = self._holder.tunnel_of(signature)
        if bound is None or bound.key != key:
            self._refuse("the connection is none that this session's gateway carries")
            raise MalformedError("a bind that is not taken")
        verify(key, signature, number)
        self._bound = bound

    def _sign(self, body: bytes) -> bytes:
        fields = Fields(body)
        blob, data, flags = fields.text(), fields.text(), fields.number()
        fields.end()
        began = time.monotonic()
        asked = self._asked()
        try:
            secret, key, user = self._judged(blob, data, flags)
            asked = attrs.evolve(asked, path=user, secrets=(secret.name,))
            self._watch.judge(asked)
            signature = key.sign(data, flags)
        except (StockadeError, MalformedError) as error:
            self._failed(asked, error, time.monotonic() - began)
            return bytes([_FAILURE])
        seconds = time.monotonic() - began
        end = RequestEnd(outcome=RequestOutcome.CARRIED, seconds=seconds)
        self._watch.ended(asked, end)
        return bytes([_SIGNED]) + text(signature)

    def _judged(self, blob: bytes, data: bytes, flags: int) -> tuple[Secret, Key, str]:
        """Whose signature is asked for, for which user. Raises RefusedError, MalformedError."""
        bound = self._bound
        if bound is None:
            raise RefusedError(
                "the program does not say for which connection, as OpenSSH does from 8.9 on"
            )
        if self._holder.tunnel_of(bound.signature) is not bound:
            raise RefusedError("the connection is over")
        found = [pair for pair in self._holder.keys(bound) if pair[1].blob == blob]
        if not found:
            raise RefusedError("the key is none of those that sign for this host")
        secret, key = found[0]
        try:
            algorithm = key.algorithm(flags)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        user = _login(data, self._number, algorithm.encode(), blob, bound.key)
        if user not in self._holder.users(secret, bound):
            raise RefusedError(f"the secret {secret.name!r} is not for the user {user!r:.80}")
        return secret, key, user

    def _asked(self) -> OutgoingRequest:
        bound = self._bound
        if bound is None:
            return OutgoingRequest(host=_UNKNOWN, port=0, method=_METHOD)
        return OutgoingRequest(host=bound.name, port=bound.port, method=_METHOD)

    def _refuse(self, words: str) -> None:
        self._failed(self._asked(), RefusedError(words), 0.0)

    def _failed(self, asked: OutgoingRequest, error: Exception, seconds: float) -> None:
        failed = isinstance(error, SecretError)
        outcome = RequestOutcome.FAILED if failed else RequestOutcome.REFUSED
        _log.info("a signature is refused: %s", error)
        self._watch.ended(asked, RequestEnd(outcome=outcome, seconds=seconds, reason=str(error)))


def _login(data: bytes, number: bytes, algorithm: bytes, blob: bytes, server: bytes) -> str:
    """The user of a login (RFC 4252) on that connection with that key; anything else is not
    signed, so no signature says something about a file, a certificate or another protocol.

    Raises RefusedError, MalformedError.
    """
    fields = Fields(data)
    if fields.text() != number:
        raise RefusedError("what is to be signed is no login, or one on another connection")
    kind, user, service = fields.byte(), fields.text(), fields.text()
    method, signs = fields.text(), fields.flag()
    same = fields.text() == algorithm and fields.text() == blob
    if (kind, service, signs, same) != (_LOGIN, _SERVICE, True, True):
        raise RefusedError("what is to be signed is no login with this key")
    if method == _HOSTBOUND:
        if fields.text() != server:
            raise RefusedError("the login names another server's key")
    elif method != _PLAIN:
        raise RefusedError("what is to be signed is no login with a key")
    fields.end()
    try:
        return user.decode("ascii")
    except UnicodeDecodeError:
        raise RefusedError("the user's name is not ASCII") from None


def _message(program: socket.socket) -> bytes | None:
    """The next one; None where the program has ended. Raises MalformedError, OSError."""
    head = _exactly(program, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    if not 1 <= length <= _MAX_MESSAGE:
        raise MalformedError("a message is too long, or empty")
    return _exactly(program, length)


def _exactly(program: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = program.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data
