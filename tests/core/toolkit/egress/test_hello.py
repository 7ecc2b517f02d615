"""What the gateway reads in a ClientHello is what a server reads (E10)."""

from __future__ import annotations

import ssl

import pytest

from core.toolkit.egress.hellos import (
    ANSWERS,
    ASKS_AGAIN,
    asked,
    extension,
    forged,
    framed,
    hello,
    made,
    records,
    server_name,
    what_openssl_reads,
)
from stockade.toolkit.egress.hello import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    Handshake,
    asks_again,
    read_hello,
)
from stockade.toolkit.egress.refused import RefusedError


def reads(data: bytes, ignored: int = 0) -> str | None:
    """What the gateway reads in a connection's first bytes; None: it waits for more."""
    handshake = Handshake(ignored)
    handshake.feed(data)
    body = handshake.client_hello()
    return None if body is None else read_hello(body)


GREASE = extension(0x2A2A, b"") + extension(0x8A8A, b"\0")
GOOD = asked()
MESSAGE = made(GOOD)

TAKEN = {
    "one record": records(MESSAGE),
    "a real one": hello("good.example"),
    "a real one of TLS 1.2": hello("good.example", newest=ssl.TLSVersion.TLSv1_2),
    "two records": records(MESSAGE, 5),
    "cut inside the message's head": records(MESSAGE, 2),
    "cut inside the session id": records(MESSAGE, 50),
    "cut inside the name": records(MESSAGE, MESSAGE.index(b"good") + 2),
    "a record for each byte": records(MESSAGE, *range(1, len(MESSAGE))),
    "no session id": records(made(GOOD, session=b"")),
    "the name in capitals": records(made(asked("GOOD.Example"))),
    "grease": records(made(GREASE, GOOD, suites=b"\x2a\x2a\x13\x01")),
    "the name last": records(made(asked()[21:], server_name(b"good.example"))),
    "long": records(made(GOOD, extension(21, bytes(15_000)))),
}


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
def test_it_reads_what_a_server_reads(data: bytes) -> None:
    assert reads(data) == "good.example"
    (name,) = what_openssl_reads(data)
    assert name is not None and name.lower() == "good.example"
    for end in range(len(data)):
        assert reads(data[:end]) is None


REFUSED = {
    "no name": records(made(asked()[21:])),
    "no extensions": records(b"\x01" + framed(3, made()[4:-2])),
    "two names in a list": records(made(server_name(b"good.example", b"evil.example"))),
    "a name of another kind": records(made(server_name(b"good.example", kind=1))),
    "an empty list of names": records(made(server_name())),
    "a list that is short": records(made(extension(0, b"\0\x05\0\0\x0cgood.example"))),
    "a list that is long": records(made(extension(0, b"\0\xff\0\0\x0cgood.example"))),
    "bytes behind the list": records(made(extension(0, b"\0\x0f\0\0\x0cgood.example!"))),
    "a name that is no ASCII": records(made(server_name("gööd.example".encode()))),
    "two names in two extensions": records(made(GOOD, server_name(b"evil.example"))),
    "an extension twice": records(made(GOOD, extension(10, framed(2, b"\0\x17")))),
    "grease twice": records(made(GREASE, GOOD, extension(0x2A2A, b""))),
    "an encrypted hello": records(made(GOOD, extension(0xFE0D, b"\0\0\x01\0\x01\x07" + bytes(99)))),
    "an encrypted hello of a draft": records(made(GOOD, extension(0xFE0A, bytes(9)))),
    "an encrypted name": records(made(GOOD, extension(0xFFCE, bytes(9)))),
    "bytes behind the extensions": records(made(GOOD, tail=b"\0")),
    "extensions past the end": records(b"\x01" + framed(3, made(GOOD)[4:-3])),
    "a session id of 33 bytes": records(made(GOOD, session=bytes(33))),
    "half a cipher suite": records(made(GOOD, suites=b"\x13\x01\x13")),
    "no cipher suite": records(made(GOOD, suites=b"")),
    "no compression": records(made(GOOD, compressions=b"")),
    "a hello of SSL 2": b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10" + bytes(37),
    "another message": records(b"\x02" + MESSAGE[1:]),
    "a second message in the record": records(MESSAGE + MESSAGE),
    "another record between": records(MESSAGE, 50)[:55] + b"\x15\x03\x01\0\x02\x01\x70",
    "an alert first": b"\x15\x03\x01\0\x02\x01\x70" + records(MESSAGE),
    "an empty record": b"\x16\x03\x01\0\0" + records(MESSAGE),
    "an empty record in between": records(MESSAGE, 50, 50),
    "a record too long": b"\x16\x03\x01\x40\x01" + bytes(0x4001),
    "a record of another version": b"\x16\x02\x00" + records(MESSAGE)[3:],
    "a message too long": records(b"\x01\x01\0\0" + bytes(9000)),
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
    "SSH": b"SSH-2.0-x\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        reads(data)


def test_a_name_that_shows_to_a_hasty_reader_alone() -> None:
    data = forged("evil.example", "good.example")
    assert what_openssl_reads(data) == ["evil.example"]
    assert reads(data) == "evil.example"


def test_lengths_that_lie_are_refused_wherever_they_are() -> None:
    """Each byte made larger and smaller: the same name, as the server has it, or none."""
    for at in range(len(MESSAGE)):
        for step in (1, 255, 128):
            changed = bytearray(MESSAGE)
            changed[at] = (changed[at] + step) % 256
            data = records(bytes(changed))
            try:
                name = reads(data)
            except RefusedError:
                continue
            for seen in what_openssl_reads(data):
                assert name is not None and seen is not None and name == seen.lower()


def test_it_passes_on_what_it_read_and_keeps_what_came_after() -> None:
    data = records(MESSAGE, 50)
    handshake = Handshake()
    handshake.feed(data + b"\x17\x03\x03\0\x05early")
    assert handshake.client_hello() == MESSAGE[4:]
    assert handshake.taken() == data and handshake.rest == b"\x17\x03\x03\0\x05early"


def test_a_hello_in_many_small_records_costs_little() -> None:
    message = made(GOOD, extension(21, bytes(30_000)))
    data = records(message, *range(1, len(message)))
    handshake = Handshake()
    for at in range(0, len(data), 100):
        handshake.feed(data[at : at + 100])
        body = handshake.client_hello()
    assert body is not None and read_hello(body) == "good.example"


def test_a_server_that_asks_again_is_seen() -> None:
    for data, again in ((ASKS_AGAIN, True), (ANSWERS, False)):
        handshake = Handshake(ALERT)
        handshake.feed(data[:30])
        assert handshake.answer() is None
        handshake.feed(data[30:])
        answer = handshake.answer()
        assert answer is not None and asks_again(answer) is again
    warned = Handshake(ALERT)
    warned.feed(b"\x15\x03\x03\0\x02\x01\x70" + ASKS_AGAIN)
    assert (warned_of := warned.answer()) is not None and asks_again(warned_of)
    with pytest.raises(RefusedError, match="ServerHello"):
        asks_again(MESSAGE[:38])
    with pytest.raises(RefusedError, match="expected TLS"):
        page = Handshake(ALERT)
        page.feed(b"HTTP/1.1 400 Bad Request\r\n")
        page.answer()


def test_a_second_hello_may_come_behind_a_change_of_cipher() -> None:
    change = b"\x14\x03\x03\0\x01\x01"
    assert reads(change + records(MESSAGE), CHANGE_CIPHER_SPEC) == "good.example"
    for data in (change * 9 + records(MESSAGE), records(MESSAGE, 9)[:14] + change):
        with pytest.raises(RefusedError):
            reads(data, CHANGE_CIPHER_SPEC)
