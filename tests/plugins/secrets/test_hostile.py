"""Programs and servers that want more than they are to have (E11)."""

from __future__ import annotations

import base64
import gzip
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugins.secrets.servers import (
    KEY,
    Certified,
    Client,
    KeyServer,
    Script,
    Watch,
    answered,
    certified,
    gateway,
    near,
    opened,
)
from stockade.config import Secret
from stockade.toolkit.egress import Gateway
from stockade.wall import RequestOutcome

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def session(port: int, watch: Watch | None = None) -> tuple[Gateway, str, str]:
    """A gateway, the place of its host, and its placeholder."""
    key = Secret("key", env="API_KEY", hosts=[f"api.example:{port}=loopback"])
    made = gateway(key, watch=watch)
    assert made.opener is not None
    return made, f"api.example:{port}", made.opener.placeholders["API_KEY"]


def raw(made: Gateway, place: str, request: bytes) -> bytes:
    """What a program is answered that writes its request by hand."""
    with opened(made, place) as tls:
        tls.sendall(request)
        data = b""
        try:
            while piece := tls.recv(65536):
                data += piece
        except (ssl.SSLError, OSError):
            pass
        return data


#: With {place} and {p}, the placeholder.
SMUGGLED = {
    "another host": "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "another port": "GET / HTTP/1.1\r\nHost: api.example:1\r\n\r\n",
    "two hosts": "GET / HTTP/1.1\r\nHost: {place}\r\nHost: {place}\r\n\r\n",
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "an absolute address": "GET https://evil.example/ HTTP/1.1\r\nHost: {place}\r\n\r\n",
    "its own, absolute": "GET https://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n",
    "a tunnel in the tunnel": "CONNECT evil.example:443 HTTP/1.1\r\nHost: {place}\r\n\r\n",
    "a trace": "TRACE / HTTP/1.1\r\nHost: {place}\r\n\r\n",
    "two lengths": "POST / HTTP/1.1\r\nHost: {place}\r\nContent-Length: 1\r\n"
    "Content-Length: 2\r\n\r\nab",
    "a length and chunks": "POST / HTTP/1.1\r\nHost: {place}\r\nContent-Length: 5\r\n"
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "other chunks": "POST / HTTP/1.1\r\nHost: {place}\r\nTransfer-Encoding: x, chunked\r\n\r\n",
    "chunks, spelled apart": "POST / HTTP/1.1\r\nHost: {place}\r\n"
    "Transfer_Encoding: chunked\r\n\r\n",
    "a host, spelled apart": "GET / HTTP/1.1\r\nHost: {place}\r\n_Host: a\r\nhos\tt: b\r\n\r\n",
    "a space before the colon": "GET / HTTP/1.1\r\nHost : {place}\r\n\r\n",
    "a NUL": "GET / HTTP/1.1\r\nHost: {place}\r\nX: a\0b\r\n\r\n",
    "a return in a value": "GET / HTTP/1.1\r\nHost: {place}\r\nX: a\rb: c\r\n\r\n",
    "the secret twice": "GET / HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {p}\r\n"
    "Authorization: Bearer mine\r\n\r\n",
    "the secret in two places": "GET / HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {p}\r\n"
    "authorization: {p}\r\n\r\n",
    "the secret dropped by a proxy": "GET / HTTP/1.1\r\nHost: {place}\r\n"
    "Connection: authorization\r\nAuthorization: Bearer {p}\r\n\r\n",
    "the secret as a name": "GET / HTTP/1.1\r\nHost: {place}\r\n{p}: x\r\n\r\n",
    "no base64": "GET / HTTP/1.1\r\nHost: {place}\r\nAuthorization: Basic {p}\r\n\r\n",
    "base64 and more": "GET / HTTP/1.1\r\nHost: {place}\r\nAuthorization: Basic {b}\xff\r\n\r\n",
    "another expectation": "POST / HTTP/1.1\r\nHost: {place}\r\nExpect: {p}\r\n\r\n",
    "a preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a head without an end": "GET / HTTP/1.1\r\nX: " + "a" * 70_000,
}


@pytest.mark.parametrize("text", SMUGGLED.values(), ids=SMUGGLED)
def test_what_two_could_read_in_two_ways_reaches_no_server(server: KeyServer, text: str) -> None:
    watch = Watch()
    made, place, placeholder = session(server.port, watch)
    basic = base64.b64encode(f"user:{placeholder}".encode()).decode()
    for name, value in {"{place}": place, "{p}": placeholder, "{b}": basic}.items():
        text = text.replace(name, value)
    answer = raw(made, place, text.encode("latin-1"))
    assert answer.split(b" ")[1:2] in ([b"400"], [b"403"]), answer
    assert server.seen.empty()
    assert watch.next()[1] is not RequestOutcome.CARRIED, "it is reported"


def test_a_second_request_before_the_answer_is_not_read(files: Certified, trusted: Path) -> None:
    script = Script(files, lambda _: iter([OK]))
    made, place, _ = session(script.port)
    two = f"GET /one HTTP/1.1\r\nHost: {place}\r\n\r\nGET /two HTTP/1.1\r\nHost: {place}\r\n\r\n"
    answer = raw(made, place, two.encode())
    assert answer.count(b"HTTP/1.1") == 1 and b"/two" not in script.seen.get(timeout=10)
    script.close()


def test_the_greeting_names_the_host_of_the_tunnel(server: KeyServer) -> None:
    made, place, _ = session(server.port)
    with pytest.raises((ssl.SSLError, OSError)), opened(made, place, name="other.example"):
        raise AssertionError("it was let in")
    assert server.seen.empty()


def test_a_program_that_does_not_trust_the_authority_is_reported(
    server: KeyServer, files: Certified
) -> None:
    watch = Watch()
    made, place, _ = session(server.port, watch)
    with pytest.raises(ssl.SSLError), opened(made, place, trust=files.authority.read_text()):
        raise AssertionError("it was let in")
    _, outcome, _, reason = watch.next()
    assert outcome is RequestOutcome.FAILED and "SSL_CERT_FILE" in (reason or "")


def test_a_placeholder_by_plain_http_is_refused(server: KeyServer) -> None:
    watch = Watch()
    key = Secret("key", env="API_KEY", hosts=[f"api.example:{server.port}=loopback"])
    plain = f"plain.example:{server.port}=loopback"
    made = gateway(key, watch=watch, network_allow=(plain, f"api.example:{server.port}=loopback"))
    assert made.opener is not None
    placeholder = made.opener.placeholders["API_KEY"]
    encoded = base64.b64encode(f"me:{placeholder}".encode()).decode()
    for head in (f"X: {placeholder}", f"Authorization: Basic {encoded}"):
        with near(made) as sock:
            url = f"http://plain.example:{server.port}/"
            said = answered(sock, f"GET {url} HTTP/1.1\r\n{head}\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 403")
        assert watch.next()[1] is RequestOutcome.REFUSED
    with near(made) as sock:
        url = f"http://api.example:{server.port}/"
        assert answered(sock, f"GET {url} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("written", [str.encode, lambda text: text.encode().hex().encode()])
@pytest.mark.parametrize("cut", [11, -1])
def test_a_placeholder_in_a_body_by_plain_http_is_refused(
    trusted: Path, written: Callable[[str], bytes], cut: int
) -> None:
    """However it is cut, behind a head that is shorter than the placeholder."""
    watch = Watch()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        key = Secret("key", env="API_KEY", hosts=["api.example"])
        made = gateway(key, watch=watch, network_allow=(f"a.b:{port}=loopback",))
        assert made.opener is not None
        body = written(made.opener.placeholders["API_KEY"])
        with near(made) as sock:
            line = f"POST http://a.b:{port}/ HTTP/1.1"
            sock.sendall(f"{line}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(20)
                sock.sendall(body[:cut])
                seen = b""
                while not seen.endswith(body[:cut]):
                    seen += connection.recv(65536)
                sock.sendall(body[cut:])
                assert b"403" in answered(sock, b"")
    assert watch.next()[1] is RequestOutcome.REFUSED


def test_a_placeholder_goes_to_no_other_secrets_host(server: KeyServer) -> None:
    """Neither in a header nor in a body, in pieces."""
    one = Secret("one", "env:API_KEY", hosts=[f"api.example:{server.port}=loopback"])
    elsewhere = [f"other.example:{server.port}=loopback"]
    two = Secret("two", "env:API_KEY", hosts=elsewhere, env="TWO")
    watch = Watch()
    made = gateway(one, two, watch=watch)
    assert made.opener is not None
    placeholder, place = made.opener.placeholders["TWO"], f"api.example:{server.port}"
    with opened(made, place) as tls:
        assert Client(tls, place).ask("GET", "/", Authorization=f"Bearer {placeholder}")[0] == 403
    with opened(made, place) as tls:
        client = Client(tls, place)
        pieces = [b"a" * 70_000, placeholder[:9].encode(), placeholder[9:].encode()]
        client.request("POST", "/echo", iter(pieces), encode_chunked=True)
        assert client.getresponse().status == 403
    assert [watch.next()[1] for _ in range(2)] == [RequestOutcome.REFUSED] * 2
    assert server.seen.empty()


def test_a_server_that_nobody_vouches_for_gets_nothing(
    server: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certified(tmp_path, "api.example").authority))
    made, place, placeholder = session(server.port)
    with opened(made, place) as tls:
        status, words = Client(tls, place).ask("GET", "/", Authorization=f"Bearer {placeholder}")
    assert status == 502 and b"certificate is not valid" in words and server.seen.empty()


def test_a_server_of_another_name_gets_nothing(server: KeyServer) -> None:
    key = Secret("key", env="API_KEY", hosts=[f"third.example:{server.port}=loopback"])
    made = gateway(key)
    place = f"third.example:{server.port}"
    with opened(made, place) as tls:
        assert Client(tls, place).ask("GET", "/")[0] == 502
    assert server.seen.empty()


#: What a server says that wants to confuse, or to bring the value back.
ANSWERS = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "no HTTP": b"SSH-2.0-x\r\n",
    "a broken encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
    b"Content-Length: 4\r\n\r\nabcd",
    "an encoding in an encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\n"
    b"Content-Length: 0\r\n\r\n",
    "a transfer encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a protocol switched unasked": b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a part": b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nsk",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_servers_that_confuse_are_no_answer(files: Certified, trusted: Path, answer: bytes) -> None:
    script = Script(files, lambda _: iter([answer]))
    made, place, _ = session(script.port)
    said = raw(
        made, place, f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
    )
    assert not said.startswith(b"HTTP/1.1 200") or b"\r\n0\r\n" not in said, said
    assert b"ab" not in said.partition(b"\r\n\r\n")[2][:2]
    script.close()


VALUE = KEY.encode()
BROUGHT = {
    "in a reason": b"HTTP/1.1 200 " + VALUE + b"\r\nContent-Length: 0\r\n\r\n",
    "in a header's name": b"HTTP/1.1 200 OK\r\nx-" + b"a-value-of-16-ch" + b": 1\r\n\r\n",
    "in two lines": b"HTTP/1.1 200 OK\r\nX: a\r\n\r\nline\n" + VALUE + b"\n" + VALUE,
    "in members of gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    + gzip.compress(b"a" + VALUE[:9])
    + gzip.compress(VALUE[9:] + b"b"),
    "before the answer": b"HTTP/1.1 103 Early Hints\r\nLink: <" + VALUE + b">\r\n\r\n" + OK,
}


@pytest.mark.parametrize("answer", BROUGHT.values(), ids=BROUGHT)
def test_servers_that_bring_it_back(
    files: Certified, trusted: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = b"a-value-of-16-ch" if b"a-value" in answer else VALUE
    monkeypatch.setenv("API_KEY", value.decode())
    script = Script(files, lambda _: iter([answer]))
    made, place, _ = session(script.port)
    said = raw(
        made, place, f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
    )
    assert value not in said and b"*" * len(value) in said, said
    script.close()


def test_an_answer_that_is_cut_off_does_not_end_well(files: Certified, trusted: Path) -> None:
    """Else a network in between decides where a script ends."""

    def says(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\nrm -rf /tmp"
        raise OSError

    script = Script(files, says)
    made, place, _ = session(script.port)
    said = raw(
        made, place, f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
    )
    assert not said.endswith(b"0\r\n\r\n")
    script.close()


def test_a_line_is_passed_on_at_once_and_delay_shows_nothing(
    files: Certified, trusted: Path
) -> None:
    """What is held back depends on lines alone: a guess that is nearly right looks as any."""
    held: dict[bytes, int] = {}
    for guess in (VALUE[:-1], b"x" * (len(VALUE) - 1)):

        def says(_: bytes, guess: bytes = guess) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n" + guess
            import time

            time.sleep(1)

        script = Script(files, says)
        made, place, _ = session(script.port)
        with opened(made, place) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
            tls.settimeout(0.6)
            data = b""
            try:
                while piece := tls.recv(65536):
                    data += piece
            except TimeoutError:
                pass
        assert b"data: 1\n\n" in data
        held[guess] = len(data)
        script.close()
    assert len(set(held.values())) == 1
