"""What is passed on as it comes: events, websockets, answers before the request's end (E11)."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.secrets.servers import KEY, Certified, Client, KeyServer, Script, gateway, opened
from stockade.config import Secret
from stockade.toolkit.egress import Gateway, RefusedError
from stockade_secrets.frames import Frames
from stockade_secrets.masking import Forms, Masker

VALUE = KEY.encode()
SWITCH = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def session(port: int) -> tuple[Gateway, str, str]:
    made = gateway(Secret("key", env="API_KEY", hosts=[f"api.example:{port}=loopback"]))
    assert made.opener is not None
    return made, f"api.example:{port}", made.opener.placeholders["API_KEY"]


def until(tls: ssl.SSLSocket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = tls.recv(1)
        assert piece, data
        data += piece
    return data


def test_events_come_one_by_one(files: Certified, trusted: Path) -> None:
    """Each is there before the server sends the next one."""
    go: queue.SimpleQueue[None] = queue.SimpleQueue()

    def says(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        for number in range(3):
            yield b"data: %d %s\n\n" % (number, VALUE)
            go.get(timeout=20)

    script = Script(files, says)
    made, place, _ = session(script.port)
    with opened(made, place) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        for number in range(3):
            event = until(tls, b"data: %d %s\n\n" % (number, b"*" * len(VALUE)))
            assert VALUE not in event
            go.put(None)
    script.close()


def frame(payload: bytes, *, last: bool = True) -> bytes:
    """As a server sends it."""
    size = len(payload)
    first = bytes([0x81 if last else 0x01])
    if size < 126:
        return first + bytes([size]) + payload
    if size < 1 << 16:
        return first + bytes([126]) + size.to_bytes(2, "big") + payload
    return first + bytes([127]) + size.to_bytes(8, "big") + payload


def test_a_websocket_is_carried_and_masked(files: Certified, trusted: Path) -> None:
    go: queue.SimpleQueue[None] = queue.SimpleQueue()

    def says(_: bytes) -> Iterator[bytes]:
        yield SWITCH + frame(b"hello")
        go.get(timeout=20)
        yield frame(b"you are " + VALUE)
        go.get(timeout=20)

    script = Script(files, says)
    made, place, placeholder = session(script.port)
    asks = (
        f"GET /live HTTP/1.1\r\nHost: {place}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        f"Authorization: Bearer {placeholder}\r\n\r\n"
    )
    with opened(made, place) as tls:
        tls.sendall(asks.encode())
        assert until(tls, b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        assert until(tls, b"hello") == frame(b"hello")
        seen = script.seen.get(timeout=20)
        assert b"Bearer " + VALUE in seen and b"deflate" not in seen
        assert b"Upgrade: websocket" in seen
        go.put(None)
        whole = frame(b"you are " + b"*" * len(VALUE))
        assert until(tls, b"*" * len(VALUE)) == whole
        go.put(None)
    script.close()


def test_frames_are_masked_however_they_are_cut() -> None:
    sent = frame(VALUE) + frame(b"a" * 300 + VALUE) + frame(b"b" * 70_000) + frame(b"")
    wanted = sent.replace(VALUE, b"*" * len(VALUE))
    for step in (1, 7, 1000, len(sent)):
        frames = Frames(Masker(Forms(lambda: [KEY])))
        pieces = (sent[at : at + step] for at in range(0, len(sent), step))
        assert b"".join(frames.feed(piece) for piece in pieces) == wanted, step


def test_a_whole_frame_is_passed_on_at_once() -> None:
    frames = Frames(Masker(Forms(lambda: [KEY])))
    assert frames.feed(frame(VALUE[:-1])) == frame(VALUE[:-1])


def test_a_masked_frame_of_a_server_ends_it() -> None:
    with pytest.raises(RefusedError):
        Frames(Masker(Forms(lambda: [KEY]))).feed(b"\x81\x85abcdhello")


@pytest.mark.parametrize("step", [1, 2, 13, 500])
def test_values_are_masked_however_they_are_cut(step: int) -> None:
    sent = b"one " + VALUE + b"\ntwo " + VALUE.hex().encode() + b" " + VALUE + VALUE + b" end"
    masker = Masker(Forms(lambda: [KEY]))
    out = b"".join(masker.feed(sent[at : at + step]) for at in range(0, len(sent), step))
    out += masker.flush()
    assert len(out) == len(sent) and b"sk-live" not in out and VALUE.hex().encode() not in out
    assert out.startswith(b"one *") and out.endswith(b"* end")


def test_an_answer_before_the_requests_end(files: Certified, trusted: Path) -> None:
    script = Script(files, lambda _: iter([b"HTTP/1.1 413 x\r\nContent-Length: 3\r\n\r\ntoo"]))
    made, place, _ = session(script.port)
    with opened(made, place) as tls:
        tls.sendall(
            f"POST / HTTP/1.1\r\nHost: {place}\r\nContent-Length: 999999\r\n\r\nbegin".encode()
        )
        assert until(tls, b"too").startswith(b"HTTP/1.1 413")
    script.close()


def test_the_value_is_read_anew_once_a_server_refused_it(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "an-old-value-of-it")
    made, place, placeholder = session(server.port)
    monkeypatch.setenv("API_KEY", KEY)
    with opened(made, place) as tls:
        client = Client(tls, place)
        given = {"Authorization": f"Bearer {placeholder}"}
        found = [client.ask("GET", "/key", None, **given)[0] for _ in range(2)]
    assert found == [401, 200]
