"""The way out to named hosts, asked by code that wants elsewhere (E10)."""

from __future__ import annotations

import queue
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from core.toolkit.egress.hellos import (
    ANSWERS,
    ASKS_AGAIN,
    asked,
    extension,
    forged,
    hello,
    made,
    records,
)
from core.toolkit.egress.network import Server, ask, gateway_to, served, the_rest
from stockade.toolkit.egress import Gateway, Limits, Names, RefusedError

OPEN = b"CONNECT good.example:443 HTTP/1.1\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
DENIED = b"\x15\x03\x03\0\x02\x02\x31"
GOOD, EVIL = records(made(asked())), records(made(asked("evil.example")))
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage"
GET = b"GET http://good.example/ HTTP/1.1\r\n"


@pytest.fixture
def server() -> Iterator[Server]:
    """Answers every piece with a page."""
    made = Server(lambda _: PAGE)
    yield made
    made.close()


def answering(*says: bytes) -> Server:
    """Answers the pieces of a connection with these, and then with nothing."""
    left = list(says)
    return Server(lambda _: left.pop(0) if left else b"")


# -- plain HTTP ---------------------------------------------------------------------

REFUSED = {
    "a line feed in a value": GET + b"X: a\nHost: evil.example\r\n\r\n",
    "a carriage return in a value": GET + b"X: a\rHost: evil.example\r\n\r\n",
    "a NUL in a value": GET + b"X: a\0b\r\n\r\n",
    "a space before the colon": GET + b"Host : evil.example\r\n\r\n",
    "a folded line": GET + b"X: a\r\n Host: evil.example\r\n\r\n",
    "a folded first line": GET + b"\tHost: evil.example\r\n\r\n",
    "no colon": GET + b"Host\r\n\r\n",
    "two hosts": GET + b"Host: good.example\r\nHost: evil.example\r\n\r\n",
    "two hosts, spelled apart": GET + b"Host: good.example\r\nhOST: good.example\r\n\r\n",
    "chunks": GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks, spelled apart": GET + b"Transfer_Encoding: chunked\r\n\r\n",
    "chunks and a length": GET + b"Content-Length: 4\r\nTransfer-Encoding: x, chunked\r\n\r\n",
    "two lengths": GET + b"Content-Length: 1\r\nContent-Length: 9\r\n\r\n",
    "two lengths in one": GET + b"Content-Length: 1, 1\r\n\r\n",
    "two lengths, spelled apart": GET + b"Content-Length: 1\r\nContent_Length: 9\r\n\r\n",
    "a length with a sign": GET + b"Content-Length: +5\r\n\r\n",
    "a length in other digits": GET + "Content-Length: ²\r\n\r\n".encode("latin-1"),
    "a hexadecimal length": GET + b"Content-Length: 0x5\r\n\r\n",
    "a length of 5000 digits": GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a line feed in the target": b"GET http://good.example/\nHost:evil HTTP/1.1\r\n\r\n",
    "a fragment": b"GET http://good.example/#@evil.example/ HTTP/1.1\r\n\r\n",
    "two spaces": b"GET  http://good.example/ HTTP/1.1\r\n\r\n",
    "four words": b"GET http://good.example/ HTTP/1.1 x\r\n\r\n",
    "no version": b"GET http://good.example/\r\n\r\n",
    "another version": b"GET http://good.example/ HTTP/2.0\r\n\r\n",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another host": b"GET http://evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
    "a user": b"GET http://good.example@evil.example/ HTTP/1.1\r\n\r\n",
    "a backslash": b"GET http://good.example\\@evil.example/ HTTP/1.1\r\n\r\n",
    "another port": b"GET http://good.example:81/ HTTP/1.1\r\n\r\n",
    "an address": b"GET http://93.184.216.34/ HTTP/1.1\r\n\r\n",
    "an address in hexadecimal": b"GET http://0x7f.1/ HTTP/1.1\r\n\r\n",
    "an address of IPv6": b"GET http://[::1]/ HTTP/1.1\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
    "TLS asked in plain": b"GET https://good.example/ HTTP/1.1\r\n\r\n",
    "a tunnel elsewhere": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n",
    "a tunnel to another port": b"CONNECT good.example:22 HTTP/1.1\r\n\r\n",
    "a port in other digits": "CONNECT good.example:44\u00b3 HTTP/1.1\r\n\r\n".encode("latin-1"),
    "a tunnel with a body": b"CONNECT good.example:443 HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    "a long head": b"CONNECT " + b"a" * 30_000 + b":443 HTTP/1.1\r\n\r\n",
    "a head without an end": GET + b"X: " + b"a" * 40_000,
    "half a head": GET,
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_requests_that_two_could_read_in_two_ways(server: Server, request_: bytes) -> None:
    answer = ask(gateway_to(server), request_)
    assert answer.startswith(b"HTTP/1.1 403")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    with pytest.raises(queue.Empty):
        server.seen.get_nowait()


def test_what_is_passed_on_names_the_host_that_was_judged(server: Server) -> None:
    request = (
        b"POST http://GOOD.example:80/a?b HTTP/1.1\r\nHost: evil.example\r\nX-Y: z\r\n"
        b"Connection: keep-alive, X-Y\r\nUpgrade: h2c\r\nX-Forwarded-Host: evil.example\r\n"
        b"Forwarded: host=evil.example\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert ask(gateway_to(server), request) == PAGE
    assert server.all_seen() == (
        b"POST /a?b HTTP/1.1\r\nHost: good.example\r\nX-Y: z\r\nContent-Length: 5\r\n"
        b"Connection: close\r\n\r\nhello"
    )


@pytest.mark.parametrize("length", [0, 5])
def test_a_second_request_is_not_passed_on(server: Server, length: int) -> None:
    """Neither at once nor later, whatever the server would make of it."""
    head = GET + b"Content-Length: %d\r\n\r\n" % length
    second = b"GET http://evil.example/2 HTTP/1.1\r\n\r\n"
    with served(gateway_to(server)) as program:
        program.sendall(head + bytes(length) + second)
        assert program.recv(65536) == PAGE
        program.sendall(second)
        assert the_rest(program) == b""
    assert b"/2" not in server.all_seen()


def test_a_body_comes_in_pieces_and_not_one_byte_more(server: Server) -> None:
    with served(gateway_to(server)) as program:
        program.sendall(b"PUT http://good.example/ HTTP/1.1\r\nContent-Length: 700000\r\n\r\n")
        for _ in range(8):
            program.sendall(b"x" * 100_000)
        the_rest(program)
    assert server.all_seen().partition(b"\r\n\r\n")[2] == b"x" * 700_000


def test_a_version_is_passed_on_as_it_came(server: Server) -> None:
    ask(gateway_to(server), b"GET http://good.example/ HTTP/1.0\r\n\r\n")
    assert server.all_seen().startswith(b"GET / HTTP/1.0\r\n")


def test_a_server_that_says_nothing_is_reported() -> None:
    silent = Server()
    try:
        answer = ask(gateway_to(silent), GET + b"\r\n")
    finally:
        silent.close()
    assert answer.startswith(b"HTTP/1.1 502") and b"no answer" in answer


def test_a_server_that_is_not_there_is_reported() -> None:
    # Bound and never listening: nobody else on the machine is given this port meanwhile.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = bound.getsockname()
        gateway = Gateway(Names.of(["good.example"]), resolver=lambda *_: [address])
        for request in (GET + b"\r\n", OPEN):
            answer = ask(gateway, request)
            assert answer.startswith(b"HTTP/1.1 502") and b"Connection refused" in answer


# -- tunnels ------------------------------------------------------------------------


def test_a_tunnel_to_the_allowed_name() -> None:
    server = answering(ANSWERS, b"more")
    try:
        with served(gateway_to(server)) as program:
            program.sendall(OPEN + GOOD[:40])
            assert program.recv(65536) == ESTABLISHED
            program.sendall(GOOD[40:])
            assert program.recv(65536) == ANSWERS
            program.sendall(b"finished")
            assert program.recv(65536) == b"more"
        assert server.all_seen() == GOOD + b"finished"
    finally:
        server.close()


WRONG = {
    "nothing": b"",
    "another name": EVIL,
    "a real hello to another name": hello("evil.example"),
    "no name": hello(None),
    "a name that shows to a hasty reader": forged("evil.example", "good.example"),
    "an encrypted hello": records(made(asked(), extension(0xFE0D, bytes(9)))),
    "a name below the allowed one": records(made(asked("a.good.example"))),
    "a name with a dot behind": records(made(asked("good.example."))),
    "a hello that never ends": GOOD[:-1],
    "SSH": b"SSH-2.0-x\r\n",
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
    "another request": b"GET http://good.example/ HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("first", WRONG.values(), ids=WRONG)
def test_a_tunnel_must_begin_with_the_name(server: Server, first: bytes) -> None:
    answer = ask(gateway_to(server), OPEN + first)
    assert answer == ESTABLISHED + DENIED  # its own TLS says that access is denied
    assert server.all_seen() == b""


@pytest.mark.parametrize("second", [EVIL, b"\x14\x03\x03\0\x01\x01" + EVIL, b"GET / HTTP/1.1\r\n"])
def test_a_second_hello_must_ask_for_the_name_too(second: bytes) -> None:
    """A server may ask for one more, and believes what that says."""
    for together in (False, True):
        server = answering(ASKS_AGAIN, ANSWERS)
        try:
            with served(gateway_to(server)) as program:
                program.sendall(OPEN + GOOD + (second if together else b""))
                assert program.recv(len(ESTABLISHED)) == ESTABLISHED
                assert program.recv(len(ASKS_AGAIN)) == ASKS_AGAIN
                program.sendall(b"" if together else second)
                assert the_rest(program) == DENIED
            assert server.all_seen() == GOOD
        finally:
            server.close()


def test_a_second_hello_to_the_same_name_is_carried() -> None:
    server = answering(ASKS_AGAIN, ANSWERS)
    change = b"\x14\x03\x03\0\x01\x01"
    try:
        with served(gateway_to(server)) as program:
            program.sendall(OPEN + GOOD)
            assert program.recv(len(ESTABLISHED)) == ESTABLISHED
            assert program.recv(len(ASKS_AGAIN)) == ASKS_AGAIN
            program.sendall(change + GOOD)
            assert program.recv(65536) == ANSWERS
        assert server.all_seen() == GOOD + change + GOOD
    finally:
        server.close()


def test_a_server_without_tls_hears_no_more() -> None:
    """It would read what follows the greeting as a request, to whatever host that names."""
    server = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", PAGE)
    try:
        evil = b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        assert ask(gateway_to(server), OPEN + GOOD, evil) == ESTABLISHED + DENIED
        assert server.all_seen() == GOOD
    finally:
        server.close()


def test_what_a_server_says_as_it_refuses_arrives() -> None:
    refusal = b"\x15\x03\x03\0\x02\x02\x28"
    server = answering(refusal)
    try:
        assert ask(gateway_to(server), OPEN + GOOD) == ESTABLISHED + refusal
    finally:
        server.close()


# -- names and addresses ------------------------------------------------------------


def test_it_connects_to_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name's owner who gives another address at the second look-up is not asked again."""
    server = Server(lambda _: PAGE)
    asked: list[str] = []

    def once(host: str, *_: object, **__: object) -> object:
        asked.append(host)
        address = "1.1.1.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.address[1]))]

    went: list[object] = []

    def connect(sock: socket.socket, address: object) -> None:
        went.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    try:
        monkeypatch.setattr(socket, "getaddrinfo", once)
        monkeypatch.setattr(socket.socket, "connect", connect)
        answer = ask(Gateway(Names.of(["good.example"])), GET + b"\r\n")
    finally:
        server.close()
    assert answer.startswith(b"HTTP/1.1 502")
    assert went == [("1.1.1.1", server.address[1])] and asked == ["good.example"]


def test_names_with_ports_that_are_no_numbers() -> None:
    for word in ("good.example:²", "good.example:" + "9" * 5000, "good.example:0", "a:b:c"):
        with pytest.raises(ValueError):
            Names.of([word])
    for word in ("10.0.0.1", "::1", "good..example", "", ".", "a.example.."):
        with pytest.raises(ValueError, match="no host's name|expected name"):
            Names.of([word])


# -- bounds -------------------------------------------------------------------------


def test_connections_are_bounded(server: Server) -> None:
    gateway = gateway_to(server, Limits(connections=2))
    with served(gateway) as first, served(gateway) as second:
        first.sendall(b"G")
        second.sendall(b"G")
        time.sleep(0.1)
        answer = ask(gateway, GET + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 503") and b"2 connections" in answer
    assert ask(gateway, GET + b"\r\n") == PAGE


def test_a_head_and_a_greeting_that_do_not_come_in_time(server: Server) -> None:
    gateway = gateway_to(server, Limits(head_seconds=0.3))
    began = time.monotonic()
    with served(gateway) as slow:
        for byte in GET[:20]:  # a byte now and then is no reason to wait on
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        assert the_rest(slow).startswith(b"HTTP/1.1 502")
    with served(gateway) as slow:
        slow.sendall(OPEN + GOOD[:9])
        assert the_rest(slow) == ESTABLISHED
    assert time.monotonic() - began < 10


def test_a_silent_connection_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = silent.getsockname()
        limits = Limits(idle_seconds=0.3)
        gateway = Gateway(Names.of(["good.example"]), resolver=lambda *_: [address], limits=limits)
        began = time.monotonic()
        with served(gateway) as program:
            program.sendall(GET + b"\r\n")
            assert the_rest(program).startswith(b"HTTP/1.1 502")
        assert time.monotonic() - began < 10


def test_close_ends_what_runs_and_refuses_what_comes(server: Server) -> None:
    gateway = gateway_to(server)
    with served(gateway) as waiting, socket.create_server(("127.0.0.1", 0)) as silent:
        to_silent = Gateway(Names.of(["good.example"]), resolver=lambda *_: [silent.getsockname()])
        with served(to_silent) as carried:
            waiting.sendall(b"G")
            carried.sendall(GET + b"\r\n")
            time.sleep(0.2)
            for one in (gateway, to_silent, gateway):
                one.close()
            the_rest(waiting)
            the_rest(carried)
    with served(gateway) as late:
        assert the_rest(late) == b""


def test_a_slow_reader_bounds_memory() -> None:
    block = bytes(1 << 20)
    sent: queue.SimpleQueue[int] = queue.SimpleQueue()

    def flood(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        count = 0
        with connection:
            connection.recv(65536)
            connection.settimeout(1.0)
            try:
                for _ in range(300):
                    connection.sendall(block)
                    count += len(block)
            except OSError:
                pass
        sent.put(count)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=flood, args=(listener,), daemon=True)
        thread.start()
        address = listener.getsockname()
        gateway = Gateway(Names.of(["good.example"]), resolver=lambda *_: [address])
        with served(gateway) as program:
            program.sendall(GET + b"\r\n")
            assert sent.get(timeout=20) < 64 << 20  # what the kernel keeps of a connection
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_a_resolver_that_refuses_is_heard(server: Server) -> None:
    def never(*_: object) -> list[tuple[str, int]]:
        raise RefusedError("good.example leads to an address that is not public")

    gateway = Gateway(Names.of(["good.example"]), resolver=never)
    answer = ask(gateway, OPEN)
    assert answer.startswith(b"HTTP/1.1 403") and b"not public" in answer
