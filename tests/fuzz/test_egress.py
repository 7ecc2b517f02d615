"""The way out to named hosts, asked by code that wants elsewhere (E10)."""

from __future__ import annotations

import queue
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import examples
from stockade.egress import Gateway, Names, RefusedError, _place, server_name
from stockade.proxyhead import HeadError, read_head
from stockade.resident.channel import Channel
from stockade.results import Stream

_HEAD = struct.Struct(">IcI")


class Forwarder(Channel):
    """The hostile end inside: says what it is told to, remembers what it hears."""

    def __init__(self, *says: bytes) -> None:
        self.says: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for data in says:
            self.says.put(data)
        self.heard: dict[int, bytes] = {}
        self.closed: set[int] = set()
        self.changed = threading.Condition()

    def send(self, data: bytes) -> None:
        number, kind, length = _HEAD.unpack_from(data)
        assert len(data) == _HEAD.size + length
        with self.changed:
            if kind == b"d":
                self.heard[number] = self.heard.get(number, b"") + data[_HEAD.size :]
            elif kind == b"c":
                self.closed.add(number)
            self.changed.notify_all()

    def receive(self, seconds: float | None = None) -> list[tuple[Stream, bytes]]:
        try:
            data = self.says.get(timeout=20 if seconds is None else seconds)
        except queue.Empty:
            raise TimeoutError from None
        return [(Stream.STDOUT, data)] if data else []

    def close(self) -> None:
        self.says.put(b"")

    def wait_closed(self, number: int) -> bytes:
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.closed, 20)
            return self.heard.get(number, b"")


class Server:
    """The one host that may be reached; keeps what each connection sent it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.seen: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.3)
                data = b""
                try:
                    while piece := connection.recv(65536):
                        data += piece
                except OSError:
                    pass
            self.seen.put(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def ask(server: Server, request: bytes) -> tuple[bytes, list[bytes]]:
    """One connection's whole input; what came back, and what the server saw of it."""
    frames = _HEAD.pack(1, b"o", 0) + _HEAD.pack(1, b"d", len(request)) + request
    frames += _HEAD.pack(1, b"c", 0)
    forwarder = Forwarder(b"8080\n", frames)
    gateway = Gateway(
        forwarder, Names.of(["good.example"]), addresses=lambda *_: [server.address[:2]]
    )
    gateway.start(5)
    try:
        answer = forwarder.wait_closed(1)
    finally:
        gateway.close()
    seen = []
    if not answer.startswith(b"HTTP/1.1 403"):
        try:
            seen.append(server.seen.get(timeout=5))
        except queue.Empty:
            pass
    return answer, seen


HOSTILE = [
    b"GET http://good.example/ HTTP/1.1\r\nX: a\nHost: evil.example\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nHost : evil.example\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\n Host: evil.example\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nX: a\rHost: evil.example\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nX: a\0b\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n",
    "GET http://good.example/ HTTP/1.1\r\nContent-Length: ²\r\n\r\n".encode("latin-1"),
    b"GET http://good.example/ HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"GET http://good.example/\nHost:evil HTTP/1.1\r\n\r\n",
    b"GET http://good.example/ HTTP/1.1 x\r\n\r\n",
    b"GET http://good.example/\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
    b"GET http://good.example@evil.example/ HTTP/1.1\r\n\r\n",
    b"GET http://good.example:81/ HTTP/1.1\r\n\r\n",
    b"GET http://93.184.216.34/ HTTP/1.1\r\n\r\n",
    b"GET http://0x7f.1/ HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
    b"CONNECT good.example:22 HTTP/1.1\r\n\r\n",
    "CONNECT good.example:44\u00b3 HTTP/1.1\r\n\r\n".encode("latin-1"),
    b"CONNECT " + b"a" * 30_000 + b":443 HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("request_", HOSTILE)
def test_requests_that_two_could_read_in_two_ways(server: Server, request_: bytes) -> None:
    answer, seen = ask(server, request_)
    assert answer.startswith(b"HTTP/1.1 403") and not seen
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_what_is_passed_on_names_the_host_that_was_judged(server: Server) -> None:
    request = (
        b"POST http://GOOD.example:80/a?b HTTP/1.1\r\nHost: evil.example\r\nX-Y: z\r\n"
        b"Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhelloGET http://evil.example/ HTTP/1.1"
    )
    _, (seen,) = ask(server, request)
    assert seen == (
        b"POST /a?b HTTP/1.1\r\nHost: good.example\r\nX-Y: z\r\nContent-Length: 5\r\n"
        b"Connection: close\r\n\r\nhello"
    )


def test_a_tunnel_must_begin_with_the_name(server: Server) -> None:
    for first in (b"", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05hello", b"GET / HTTP/1.1\r\n\r\n"):
        _, seen = ask(server, b"CONNECT good.example:443 HTTP/1.1\r\n\r\n" + first)
        assert b"".join(seen) == b""


LINES = st.lists(
    st.sampled_from([b"Host: evil.example", b"A: b", b"\r", b"\n", b"\0", b" x", b"Host", b":",
                     b"Content-Length: 3", b"\xff", b"A:b\r\nC : d", b"\tfold"]),
    max_size=5,
).map(b"\r\n".join)  # fmt: skip


@examples(150)
@given(st.sampled_from([b"GET /", b"GET / HTTP/1.1", b"G\nT / HTTP/1.1", b""]), LINES)
@example(b"GET / HTTP/1.1", b"A: b\nHost: evil")
def test_a_head_that_is_taken_can_be_read_in_one_way_only(first: bytes, lines: bytes) -> None:
    try:
        head = read_head(first + b"\r\n" + lines)
    except HeadError:
        return
    rendered = "\r\n".join(head.headers)
    assert "\0" not in rendered and rendered.count("\r") == rendered.count("\n")
    for line in head.headers:
        name = line.partition(":")[0]
        assert name and not name.endswith(" ") and name.lower() not in ("host", "connection")
        assert "\n" not in line and not line.startswith((" ", "\t"))


@examples(200)
@given(st.text(max_size=60))
def test_no_text_is_a_host_unless_it_is_that_one(text: str) -> None:
    names = Names.of(["good.example"])
    try:
        host, port = _place(text, 443)
        assert names.check(host, port) == "good.example"
    except RefusedError:
        return


@examples(150)
@given(st.sampled_from([b"", b"\x16\x03\x01\0\xff\x01\0\0\xf0"]), st.binary(max_size=300))
def test_a_client_hello_of_any_bytes(begin: bytes, data: bytes) -> None:
    name = server_name(begin + data)
    assert name is None or isinstance(name, str)


FRAMES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([b"o", b"d", b"w", b"c", b"?"]),
              st.binary(max_size=80)),
    max_size=12,
)  # fmt: skip


@examples(100)
@given(FRAMES, st.lists(st.integers(1, 30), max_size=10), st.binary(max_size=8))
def test_any_frames_end_with_their_channel(
    frames: list[tuple[int, bytes, bytes]], cuts: list[int], junk: bytes
) -> None:
    wire = b"".join(_HEAD.pack(n, kind, len(data)) + data for n, kind, data in frames) + junk
    pieces = []
    for cut in cuts:
        pieces.append(wire[:cut])
        wire = wire[cut:]
    forwarder = Forwarder(b"8080\n", *(piece for piece in [*pieces, wire] if piece))
    gateway = Gateway(
        forwarder, Names.of(["good.example"]), addresses=lambda *_: [("127.0.0.1", 9)]
    )
    gateway.start(5)
    forwarder.close()
    opened = {number for number, kind, _ in frames if kind == b"o"}
    deadline = time.monotonic() + 20
    while gateway._connections and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not gateway._connections
    assert set(forwarder.heard) <= opened


def test_many_small_frames_cost_little() -> None:
    """They are cut from what was read at once: a copy each would be gigabytes."""
    frames = _HEAD.pack(7, b"w", 0) * 300_000
    forwarder = Forwarder(b"8080\n", frames)
    began = time.process_time()
    gateway = Gateway(forwarder, Names.of(["good.example"]))
    gateway.start(5)
    forwarder.says.put(_HEAD.pack(1, b"o", 0) + _HEAD.pack(1, b"c", 0))
    assert forwarder.wait_closed(1).startswith(b"HTTP/1.1 403")
    assert time.process_time() - began < 5
    gateway.close()


@pytest.mark.parametrize("says", [b"x" * 300, b"-5\n", b"99999999\n", b"\n", "²\n".encode()])
def test_a_forwarder_that_makes_no_sense(says: bytes) -> None:
    forwarder = Forwarder(*[says] * 20)
    with pytest.raises(OSError):
        Gateway(forwarder, Names.of(["good.example"])).start(0.5)


def test_data_that_nobody_asked_for_is_bounded(server: Server) -> None:
    block = bytes(256 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forwarder = Forwarder(b"8080\n", _HEAD.pack(1, b"o", 0))

    def never(*_: object) -> list[tuple[str, int]]:
        time.sleep(1.0)
        raise RefusedError("no")

    gateway = Gateway(forwarder, Names.of(["good.example"]), addresses=never)
    gateway.start(5)
    forwarder.says.put(
        _HEAD.pack(1, b"d", 45) + b"CONNECT good.example:443 HTTP/1.1\r\n\r\n" + bytes(8)
    )
    for _ in range(400):
        forwarder.says.put(_HEAD.pack(1, b"d", len(block)) + block)
    forwarder.wait_closed(1)
    gateway.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 140 * 1024


def test_names_with_ports_that_are_no_numbers() -> None:
    for word in ("good.example:²", "good.example:" + "9" * 5000, "good.example:0", "a:b:c"):
        with pytest.raises(ValueError):
            Names.of([word])
