"""The requests in one tunnel, one after the other: read, judged, filled, carried (E11)."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any

import attrs
import h11

from stockade.config import Secret
from stockade.errors import SecretError, StockadeError
from stockade.toolkit.egress import Looker, RefusedError, Tunnel
from stockade.wall import OutgoingRequest, RequestEnd, RequestOutcome
from stockade_secrets.bodies import Body, masked_head
from stockade_secrets.frames import Frames
from stockade_secrets.masking import Forms, Masker
from stockade_secrets.placeholders import Placeholders
from stockade_secrets.requests import Draft, Place
from stockade_secrets.tls import Tls, wait
from stockade_secrets.vault import Vault

__all__ = ["Exchange", "Keys"]

_MAX_HEAD = 64 * 1024
_UNAUTHORIZED = 401
_SWITCHED = 101
_FIRST_FINAL = 200
_SPOKEN = "the gateway speaks HTTP/1.1: gRPC, which is HTTP/2 alone, does not go through it"


@attrs.frozen(kw_only=True, repr=False)
class Keys:
    """What all tunnels of a session share."""

    vault: Vault
    forms: Forms  #: of the values in the vault
    placeholders: Placeholders
    server_context: ssl.SSLContext  #: towards servers: their certificates are checked


class Exchange:
    """Serves a program that has finished its handshake; one server connection at a time."""

    def __init__(self, program: Tls, place: Place, keys: Keys, tunnel: Tunnel) -> None:
        self._program = program
        self._place = place
        self._keys = keys
        self._tunnel = tunnel
        self._down = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._server: Tls | None = None
        self._up: Any = None
        self._last = False  #: this connection serves no further request
        self._cut = False  #: an answer has begun, and did not come to its end
        self._asked = False  #: a request has come

    def run(self) -> None:
        """Until the program ends the connection, or something must not go on. Never raises."""
        with contextlib.suppress(OSError, h11.ProtocolError):
            while self._one():
                self._down.start_next_cycle()
        if not self._asked and self._program.protocol is None:
            # Who wants no HTTP/1.1 says so by leaving.
            self._not_understood("the program has asked for nothing, and " + _SPOKEN)
        with contextlib.suppress(OSError):
            if not self._cut:
                self._program.say_goodbye()
            self._drain()

    def _not_understood(self, words: str) -> None:
        asked = OutgoingRequest(host=self._place.name, port=self._place.port, method="CONNECT")
        end = RequestEnd(outcome=RequestOutcome.FAILED, seconds=0.0, reason=words)
        self._tunnel.watch.ended(asked, end)

    def _one(self) -> bool:
        """One request; whether another may come on this connection."""
        try:
            request = self._next_request()
        except h11.RemoteProtocolError as error:
            self._asked = True
            words = f"not HTTP/1.1 as it is understood here: {error}"
            self._not_understood(words)
            self._answer(400, words)
            return False
        if request is None:
            return False
        self._asked = True
        began = time.monotonic()
        asked = self._bare(request)
        try:
            draft = Draft(request, self._place, self._keys.placeholders)
            asked = attrs.evolve(asked, secrets=draft.secrets)
            self._tunnel.watch.judge(asked)
            flow = self._begin(draft)
            status = flow.run()
        except (StockadeError, OSError, h11.ProtocolError) as error:
            self._failed(asked, error, time.monotonic() - began)
            return False
        seconds = time.monotonic() - began
        end = RequestEnd(outcome=RequestOutcome.CARRIED, status=status, seconds=seconds)
        self._tunnel.watch.ended(asked, end)
        return flow.goes_on and not self._last

    def _bare(self, request: h11.Request) -> OutgoingRequest:
        """What is known of it before it was understood."""
        return OutgoingRequest(
            host=self._place.name,
            port=self._place.port,
            method=request.method.decode("ascii", "replace"),
            path=request.target.decode("latin-1").partition("?")[0],
        )

    def _failed(self, asked: OutgoingRequest, error: Exception, seconds: float) -> None:
        refused = isinstance(error, StockadeError) and not isinstance(error, SecretError)
        outcome = RequestOutcome.REFUSED if refused else RequestOutcome.FAILED
        words = _words(error)
        end = RequestEnd(outcome=outcome, seconds=seconds, reason=words)
        self._tunnel.watch.ended(asked, end)
        self._answer(403 if refused else 502, words)

    # -- the program's side ----------------------------------------------------------

    def _next_request(self) -> h11.Request | None:
        """Its head; None where the program has ended the connection."""
        until = time.monotonic() + self._tunnel.limits.idle_seconds
        while True:
            event = self._down.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            left = until - time.monotonic()
            if left <= 0 or not wait([self._program], _waiting(self._program), left):
                return None
            self._program.flush()
            data = self._program.read()
            if data or self._program.ended:
                self._down.receive_data(data)
            if self._down.trailing_data[0]:  # a head has begun: it has less time
                until = min(until, time.monotonic() + self._tunnel.limits.head_seconds)

    def _answer(self, status: int, words: str) -> None:
        """An answer of the gateway's own, where none has begun; then the connection ends."""
        body = words.encode("ascii", "backslashreplace") + b"\n"
        headers = [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        if self._down.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._cut = True
            return
        for event in (
            h11.Response(status_code=status, headers=headers, reason=b"Refused by stockade"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self._program.send(self._down.send(event) or b"")

    def _drain(self) -> None:
        until = time.monotonic() + self._tunnel.limits.idle_seconds
        while self._program.flush() and time.monotonic() < until:
            wait([], [self._program], 1.0)

    # -- the server's side -----------------------------------------------------------

    def _begin(self, draft: Draft) -> _Flow:
        values = {name: self._keys.vault.value(name) for name in draft.secrets}
        server = self._connected()
        server.send(self._up.send(draft.filled(values)))
        return _Flow(self, draft)

    def _connected(self) -> Tls:
        """The connection to the server: the one that is open and quiet, or a new one."""
        if self._server is not None and self._reusable(self._server):
            self._up.start_next_cycle()
            return self._server
        self._server = None
        until = time.monotonic() + self._tunnel.limits.connect_seconds
        server = Tls(self._tunnel.connect(), self._keys.server_context, name=self._place.name)
        server.handshake(until)
        self._server = server
        self._up = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        return server

    def _reusable(self, server: Tls) -> bool:
        if self._up.our_state is not h11.DONE or self._up.their_state is not h11.DONE:
            return False
        # What a server sends unasked is nobody's answer.
        return not server.has_more and not wait([server], [], 0)


class _Flow:
    """One request's body up and its answer down, at the same time."""

    def __init__(self, exchange: Exchange, draft: Draft) -> None:
        self._exchange = exchange
        self._draft = draft
        self._program, server = exchange._program, exchange._server
        assert server is not None
        self._server: Tls = server
        self._down, self._up = exchange._down, exchange._up
        self._idle = exchange._tunnel.limits.idle_seconds
        self._masker = Masker(exchange._keys.forms)
        self._looks = Looker(self._look, exchange._keys.placeholders.overlap)  # at what goes up
        self._sent = self._answered = False
        self._body: Body | None = None
        self._framed = False  # the answer says itself where it ends
        self._status = 0
        self._frames: Frames | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the connection may serve another request."""
        ours, theirs = self._down.our_state, self._down.their_state
        return bool(ours is h11.DONE and theirs is h11.DONE)

    def run(self) -> int:
        """Carry all of it; the answer's status. Raises RefusedError, OSError, and h11's."""
        while True:
            self._ask()
            self._hear()
            if self._frames is not None:
                self._relay(self._frames)
                return self._status
            if self._answered and not self._program.crowded:
                return self._status
            self._wait()

    def _wait(self) -> None:
        """For more of either side, unless the other one is slow to take it."""
        listens = not self._server.crowded and not self._exchange._last
        reads = [self._program] if listens else []
        if not self._program.crowded:
            reads.append(self._server)
        if not wait(reads, _waiting(self._program, self._server), self._idle):
            raise OSError(f"nothing moved for {self._idle:g} s")
        self._program.flush()
        self._server.flush()
        if listens:
            data = self._program.read()
            if data or self._program.ended:
                self._down.receive_data(data)
            if self._program.ended:
                raise OSError("the program has gone")
            if data and self._sent:  # another request before this one's answer
                self._exchange._last = True
        if not self._program.crowded:
            data = self._server.read()
            if data or self._server.ended:
                self._up.receive_data(data)
                if data and self._server.ended:
                    self._up.receive_data(b"")

    def _ask(self) -> None:
        while not self._sent:
            event = self._down.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Data):
                self._looks(bytes(event.data))
                self._server.send(self._up.send(h11.Data(data=event.data)))
            elif isinstance(event, h11.EndOfMessage):
                self._server.send(self._up.send(h11.EndOfMessage()) or b"")
                self._sent = True
                self._exchange._last |= bool(self._down.trailing_data[0])
            else:
                raise OSError("the program has gone")

    def _look(self, data: bytes) -> None:
        """Whether a placeholder goes where its secret does not."""
        own = {secret.name for secret in self._exchange._place.secrets}
        for name in self._exchange._keys.placeholders.found(data):
            if name not in own:
                raise RefusedError(
                    f"the placeholder of the secret {name!r} goes to "
                    f"{self._exchange._place.name}, which is not among its hosts"
                )

    def _hear(self) -> None:
        while not self._answered:
            event = self._up.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            take = _TAKERS.get(type(event))
            if take is None:
                raise OSError("the server ended without an answer")
            take(self, event)
            if self._frames is not None or self._program.crowded:
                return

    def _informed(self, event: h11.InformationalResponse) -> None:
        headers = masked_head(event, self._masker)
        if event.status_code == _SWITCHED:
            if not self._draft.websocket:
                raise OSError("the server switches protocols unasked")
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
            self._frames = Frames(self._masker)
            self._status = _SWITCHED
        self._pass(h11.InformationalResponse(status_code=event.status_code, headers=headers))

    def _began(self, event: h11.Response) -> None:
        if event.status_code == _UNAUTHORIZED:
            for name in self._draft.secrets:
                self._exchange._keys.vault.forget(name)
        names = {name for name, _ in event.headers}
        self._framed = bool(names & {b"content-length", b"transfer-encoding"})
        passes = all(_passes(secret) for secret in self._exchange._place.secrets)
        self._body = Body(event, self._masker, passes=passes)
        headers = masked_head(event, self._masker, decoded=self._body.decoded)
        self._status = event.status_code
        reason = self._masker.all_of(bytes(event.reason))
        self._pass(h11.Response(status_code=self._status, headers=headers, reason=reason))

    def _went_on(self, event: h11.Data) -> None:
        assert self._body is not None
        for piece in self._body.feed(bytes(event.data)):
            self._pass(h11.Data(data=piece))

    def _ended(self, _: h11.EndOfMessage) -> None:
        assert self._body is not None
        if self._server.ended and not self._server.ended_well and not self._framed:
            raise OSError("the server's answer was cut off")
        if rest := self._body.end():
            self._pass(h11.Data(data=rest))
        self._pass(h11.EndOfMessage())  # without trailers, which nobody reads
        self._answered = True

    def _pass(self, event: Any) -> None:
        self._program.send(self._down.send(event) or b"")

    def _relay(self, frames: Frames) -> None:
        """A websocket: both ways until one of them ends."""
        self._server.send(self._down.trailing_data[0])
        self._program.send(frames.feed(self._up.trailing_data[0]))
        self._exchange._last = True
        while not (self._program.ended or self._server.ended):
            reads = [] if self._server.crowded else [self._program]
            reads += [] if self._program.crowded else [self._server]
            if not wait(reads, _waiting(self._program, self._server), self._idle):
                return
            self._program.flush()
            self._server.flush()
            if self._program in reads:
                data = self._program.read()
                self._looks(data)
                self._server.send(data)
            if self._server in reads:
                self._program.send(frames.feed(self._server.read()))


_TAKERS: dict[type, Callable[[_Flow, Any], None]] = {
    h11.InformationalResponse: _Flow._informed,
    h11.Response: _Flow._began,
    h11.Data: _Flow._went_on,
    h11.EndOfMessage: _Flow._ended,
}


def _passes(secret: Secret) -> bool:
    return secret.uninspected == "pass"


def _waiting(*sides: Tls) -> list[Tls]:
    return [side for side in sides if side.waits]


def _words(error: Exception) -> str:
    """For the program, and for whoever watches: no value is in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid: {error.verify_message}"
    if isinstance(error, h11.ProtocolError):
        return "what came is not HTTP/1.1 as it is understood here"
    return str(error) or type(error).__name__
