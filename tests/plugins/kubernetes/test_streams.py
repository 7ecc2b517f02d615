"""The attached websocket, against a server that speaks what this cluster's own does not."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

streams: Any = pytest.importorskip("stockade_kubernetes.streams")
clusters: Any = pytest.importorskip("stockade_kubernetes.cluster")

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSED_INPUT = b"\xff\x00"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


@attrs.define
class Kubelet:
    """Takes websockets as a kubelet does behind its API server; keeps what it was sent."""

    #: The protocols that it knows, its favourite first.
    speaks: tuple[str, ...] = (V5, V4)
    #: Status and body of the answers that come before a websocket.
    refusals: list[tuple[str, bytes]] = attrs.field(factory=list)
    #: What it does with a connection, once that is there.
    act: Callable[[Kubelet, socket.socket], None] = lambda kubelet, connection: None
    heads: list[dict[str, str]] = attrs.field(factory=list)
    frames: list[bytes] = attrs.field(factory=list)
    url: str = ""

    def take(self, connection: socket.socket) -> None:
        """One connection, to its end."""
        with connection:
            lines = _until(connection, b"\r\n\r\n").decode().split("\r\n")[1:]
            head = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in lines if line)
            }
            self.heads.append(head)
            if self.refusals:
                status, body = self.refusals.pop(0)
                size = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                connection.sendall(f"HTTP/1.1 {status}\r\n{size}".encode() + body)
                return
            offered = head["sec-websocket-protocol"].replace(" ", "").split(",")
            chosen = next(one for one in self.speaks if one in offered)
            key = hashlib.sha1(f"{head['sec-websocket-key']}{_MAGIC}".encode()).digest()
            connection.sendall(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {base64.b64encode(key).decode()}\r\n"
                f"Sec-WebSocket-Protocol: {chosen}\r\n\r\n".encode()
            )
            self.act(self, connection)

    def read(self, connection: socket.socket) -> bytes:
        """The next frame's bytes, kept as well; empty at the end."""
        head = connection.recv(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return b""
        size = head[1] & 127
        if size == 126:
            size = int.from_bytes(_exactly(connection, 2), "big")
        mask = _exactly(connection, 4)
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(_exactly(connection, size)))
        self.frames.append(data)
        return data


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


def _until(connection: socket.socket, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        found += connection.recv(1)
    return found


def said(channel: int, data: bytes) -> bytes:
    """A frame of the server's."""
    body = bytes((channel,)) + data
    return bytes((0x82, len(body))) + body


@pytest.fixture
def kubelet(cluster: Any) -> Iterator[Kubelet]:
    """Behind the ``cluster`` of the same test."""
    found = Kubelet()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=found.take, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    cluster.configuration.host = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield found
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def attach(cluster: Any, look: Callable[[], None] = lambda: None) -> Any:
    until = time.monotonic() + 10
    return streams.attached(cluster, "a-pod", "sandbox", until=until, look=look)


def echo_until_closed(kubelet: Kubelet, connection: socket.socket) -> None:
    """A program that ends with its input, and says so then."""
    while (data := kubelet.read(connection)) not in (b"", _CLOSED_INPUT):
        connection.sendall(said(1, data[1:]))
    if data:
        connection.sendall(said(1, b"bye") + said(3, json.dumps({"status": "Success"}).encode()))
        connection.sendall(b"\x88\x00")


@pytest.mark.timeout(30)
def test_the_newer_protocol_is_chosen_where_it_is_spoken_and_closes_one_direction(
    cluster: Any, kubelet: Kubelet
) -> None:
    kubelet.act = echo_until_closed
    transport = attach(cluster)
    transport.send(b"ping")
    assert transport.receive() == b"ping"
    # As the link's own thread reads while another winds down.
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.extend(iter(transport.receive, b"")))
    reader.start()
    begun = time.monotonic()
    transport.wind_down(10)
    assert time.monotonic() - begun < 5
    reader.join(5)
    assert rest == [b"bye"] and transport.status == "Success"
    assert kubelet.frames == [b"\0ping", _CLOSED_INPUT]
    assert kubelet.heads[0]["sec-websocket-protocol"].startswith(V5)
    transport.close()


@pytest.mark.timeout(30)
def test_the_older_protocol_cannot_close_one_direction_and_is_not_asked_to(
    cluster: Any, kubelet: Kubelet
) -> None:
    kubelet.speaks, kubelet.act = (V4,), echo_until_closed
    transport = attach(cluster)
    transport.send(b"ping")
    assert transport.receive() == b"ping"
    transport.wind_down(10)
    transport.send(b"more")
    assert transport.receive() == b"more"
    transport.close()
    assert kubelet.frames == [b"\0ping", b"\0more"]


@pytest.mark.timeout(30)
def test_each_channel_goes_its_own_way(cluster: Any, kubelet: Kubelet) -> None:
    refused = json.dumps({"status": "Failure", "message": "command terminated"}).encode()

    def act(kubelet: Kubelet, connection: socket.socket) -> None:
        connection.sendall(said(1, b"") + said(2, b"sh: no") + said(1, b"out") + said(3, refused))
        connection.sendall(b"\x89\x01p" + said(1, b"end"))
        kubelet.read(connection)
        connection.sendall(b"\x88\x00")

    kubelet.act = act
    transport = attach(cluster)
    assert [transport.receive() for _ in range(3)] == [b"out", b"end", b""]
    assert transport.stderr == b"sh: no" and transport.status == "command terminated"
    assert kubelet.frames == [b"p"]  # a ping is answered
    transport.close()


@pytest.mark.timeout(30)
def test_a_container_that_is_about_to_run_is_waited_for(cluster: Any, kubelet: Kubelet) -> None:
    early = json.dumps({"message": "container not found", "reason": "BadRequest"}).encode()
    kubelet.refusals = [("400 Bad Request", early), ("500 Internal Server Error", early)]
    looked: list[int] = []
    attach(cluster, lambda: looked.append(1)).close()
    assert len(looked) == 2 and len(kubelet.heads) == 3


@pytest.mark.timeout(30)
def test_what_is_refused_for_good_is_said_in_the_servers_words(
    cluster: Any, kubelet: Kubelet
) -> None:
    body = json.dumps({"message": "pods is forbidden", "reason": "Forbidden"}).encode()
    kubelet.refusals = [("403 Forbidden", body)]
    with pytest.raises(clusters.ClusterError, match="pods is forbidden") as caught:
        attach(cluster)
    assert caught.value.status == 403 and len(kubelet.heads) == 1


@pytest.mark.timeout(30)
def test_a_token_that_is_refused_is_read_anew_for_a_stream_too(
    cluster: Any, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = iter(["old", "new"])
    monkeypatch.setattr(cluster, "headers", lambda: {"authorization": next(tokens, "newest")})
    renewed: list[int] = []
    monkeypatch.setattr(cluster, "renew", lambda: renewed.append(1))
    kubelet.refusals = [("401 Unauthorized", b"{}")]
    attach(cluster).close()
    assert [head["authorization"] for head in kubelet.heads] == ["old", "new"]
    kubelet.refusals = [("401 Unauthorized", b"{}")] * 5
    with pytest.raises(clusters.ClusterError) as caught:
        attach(cluster)
    assert caught.value.status == 401 and len(kubelet.heads) == 4 and len(renewed) == 2


@pytest.mark.timeout(30)
def test_busy_servers_are_asked_for_a_stream_again(cluster: Any, kubelet: Kubelet) -> None:
    kubelet.refusals = [("429 Too Many Requests\r\nRetry-After: 1", b"")]
    begun = time.monotonic()
    attach(cluster).close()
    assert time.monotonic() - begun >= 1 and len(kubelet.heads) == 2
