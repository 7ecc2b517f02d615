"""What the gateway reads of a program, held against any bytes and a real server (E10)."""

from __future__ import annotations

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from conftest import examples
from core.toolkit.egress.hellos import (
    asked,
    extension,
    forged,
    hello,
    made,
    records,
    server_name,
    what_openssl_reads,
)
from core.toolkit.egress.network import ask
from stockade.toolkit.egress import Gateway, Names, RefusedError, is_public
from stockade.toolkit.egress.head import read_head
from stockade.toolkit.egress.hello import Handshake, asks_again, read_hello
from stockade.toolkit.egress.names import place

LINES = st.lists(
    st.sampled_from(
        [
            b"Host: evil.example",
            b"A: b",
            b"\r",
            b"\n",
            b"\0",
            b" x",
            b"Host",
            b":",
            b"Content-Length: 3",
            b"\xff",
            b"A:b\r\nC : d",
            b"\tfold",
            b"Content_Length: 4",
            b"Transfer-Encoding: chunked",
            b"Connection: keep-alive",
        ]
    ),
    max_size=5,
).map(b"\r\n".join)


@examples(150)
@given(st.sampled_from([b"GET /", b"GET / HTTP/1.1", b"G\nT / HTTP/1.1", b""]), LINES)
@example(b"GET / HTTP/1.1", b"A: b\nHost: evil")
def test_a_head_that_is_taken_can_be_read_in_one_way_only(first: bytes, lines: bytes) -> None:
    try:
        head = read_head(first + b"\r\n" + lines)
    except RefusedError:
        return
    rendered = "\r\n".join(head.headers)
    assert "\0" not in rendered and rendered.count("\r") == rendered.count("\n")
    names = [line.partition(":")[0].lower() for line in head.headers]
    assert not {"host", "connection", "transfer-encoding", "content_length"} & set(names)
    assert names.count("content-length") == (1 if head.length else 0)
    for name, line in zip(names, head.headers, strict=True):
        assert name and not name.endswith(" ")
        assert "\n" not in line and not line.startswith((" ", "\t"))


@examples(150)
@given(st.binary(max_size=200), st.binary(max_size=200))
@example(b"GET http://good.example/ HTTP/1.1", b"X: y")
def test_any_request_is_answered(first: bytes, second: bytes) -> None:
    """And without a look-up, unless it asks for the one name."""
    looked_up: list[str] = []

    def resolver(name: str, port: int) -> list[tuple[str, int]]:
        looked_up.append(name)
        return []

    gateway = Gateway(Names.of(["good.example"]), resolver=resolver)
    answer = ask(gateway, first + b"\r\n" + second + b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 502"))
    assert set(looked_up) <= {"good.example"}


@examples(200)
@given(st.text(max_size=60))
def test_no_text_is_a_host_unless_it_is_that_one(text: str) -> None:
    names = Names.of(["good.example"])
    with contextlib.suppress(RefusedError):
        host, port = place(text, 443)
        assert names.check(host, port) == "good.example"


@examples(300)
@given(st.one_of(st.ip_addresses().map(str), st.text(max_size=40)))
def test_any_text_is_public_or_not(text: str) -> None:
    assert is_public(text) in (True, False)


# -- the begin of TLS -----------------------------------------------------------------

EXTENSIONS = st.sampled_from(
    [
        asked(),
        server_name(b"evil.example"),
        server_name(b"good.example", b"evil.example"),
        extension(0, b""),
        extension(0x2A2A, b"\0"),
        extension(0xFE0D, b"\0\0\x01"),
        extension(21, bytes(40)),
        extension(16, b"\0\x03\x02h2"),
    ]
)
MADE = st.builds(
    lambda extensions, session, tail: made(*extensions, session=session, tail=tail),
    st.lists(EXTENSIONS, max_size=4),
    st.sampled_from([b"", bytes(32), bytes(33), bytes(7)]),
    st.sampled_from([b"", b"", b"\0"]),
)
REAL = hello("good.example")[5:]


@st.composite
def greetings(draw: st.DrawFn) -> bytes:
    """A hello in records cut anywhere, some bytes of it changed."""
    message = bytearray(draw(st.one_of(MADE, st.just(REAL))))
    for at in draw(st.lists(st.integers(0, len(message) - 1), max_size=2)):
        message[at] = draw(st.integers(0, 255))
    cuts = draw(st.lists(st.integers(0, len(message)), max_size=3))
    data = bytearray(records(bytes(message), *sorted(cuts)))
    for at in draw(st.lists(st.integers(0, len(data) - 1), max_size=1)):
        data[at] = draw(st.integers(0, 255))
    return bytes(data) + draw(st.binary(max_size=20))


@examples(1500)
@given(greetings())
@example(forged("evil.example", "good.example"))
@example(records(made(asked(), asked("evil.example")), 50))
def test_the_gateway_reads_what_a_server_reads(data: bytes) -> None:
    """Where it reads a name in what it passes on, a server reads that one or none."""
    handshake = Handshake()
    try:
        handshake.feed(data)
        body = handshake.client_hello()
        if body is None:
            return
        name = read_hello(body)
    except RefusedError:
        return
    assert data.startswith(handshake.taken())
    for seen in what_openssl_reads(handshake.taken() + b"\x14\x03\x03\0\x01\x01"):
        assert seen is not None and seen.lower() == name


@examples(150)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_a_server_may_answer_anything(pieces: list[bytes]) -> None:
    handshake = Handshake(21)
    with contextlib.suppress(RefusedError):
        for piece in pieces:
            handshake.feed(piece)
            answer = handshake.answer()
            if answer is not None:
                asks_again(answer)
                return
