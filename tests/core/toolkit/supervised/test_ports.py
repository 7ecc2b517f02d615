"""Published ports over the link: what connects is carried whole, and ends with either side."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import conftest
from core.threads import few_threads
from stockade import SandboxLostError, SandboxStartError
from stockade.toolkit.supervised import Link, LinkLost
from stockade.toolkit.supervised.egress import carry, refuse
from stockade.toolkit.supervised.ports import Published

MANY = bytes(range(256)) * (4096 * 3)

until = functools.partial(conftest.until, seconds=10.0)


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A server where the supervisor is, one thread a connection; its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def whole(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := connection.recv(65536):
        data += piece
    return bytes(data)


def refused(published: Published, port: int) -> bool:
    """Whether what connects is ended at once; it may be while it connects."""
    try:
        with connected(published, port) as client:
            return ended(client)
    except ConnectionError:
        return True


@pytest.fixture
def opened(link: Link) -> Iterator[Callable[..., Published]]:
    made: list[Published] = []

    def publish(*ports: int) -> Published:
        made.append(Published(link))
        made[-1].open(ports)
        return made[-1]

    yield publish
    for published in made:
        published.close()
        published.close()


def connected(published: Published, port: int) -> socket.socket:
    return socket.create_connection(published.address_of(port), 10)


def ended(connection: socket.socket) -> bool:
    """Whether the other end is gone, and nothing came before."""
    connection.settimeout(10)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_go_both_ways_whole(opened: Callable[..., Published], link: Link) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"said: " + whole(connection))  # once the client has said all

    with serving(answer) as one, serving(echo) as two:
        published = opened(one, two)
        with connected(published, one) as client:
            client.sendall(MANY)
            client.shutdown(socket.SHUT_WR)
            assert whole(client) == b"said: " + MANY
        clients = [connected(published, two) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        assert [client.recv(100) for client in clients] == [b"%d" % n for n in range(20)]
        for client in clients:
            client.close()
        assert until(lambda: not published._held)
    assert not link._executions


def test_a_server_of_the_other_version_is_found(opened: Callable[..., Published]) -> None:
    """As those are that listen on ``localhost``."""
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    with serving(echo, "::1") as port:
        published = opened(port)
        with connected(published, port) as client:
            client.sendall(MANY[:4096])
            client.shutdown(socket.SHUT_WR)
            assert whole(client) == MANY[:4096]


def test_a_server_that_ends_first_is_heard_to_the_end(opened: Callable[..., Published]) -> None:
    with serving(lambda connection: connection.sendall(MANY)) as port:
        published = opened(port)
        with connected(published, port) as client:
            assert whole(client) == MANY
        assert until(lambda: not published._held)


def test_where_nobody_listens_it_ends_at_once(opened: Callable[..., Published]) -> None:
    with socket.socket() as bound:  # nobody else gets it
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        published = opened(port)
        assert refused(published, port)
        assert until(lambda: not published._held)


def test_a_client_that_reads_nothing_holds_up_nobody(
    opened: Callable[..., Published], link: Link
) -> None:
    with serving(lambda c: c.sendall(MANY * 8)) as port, serving(echo) as other:
        published = opened(port, other)
        with connected(published, port), connected(published, other) as client:
            for _ in range(5):
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            assert link.counts(5)
        assert until(lambda: not published._held), "a client that went is let go of"


def test_a_server_that_reads_nothing_holds_up_nobody(
    opened: Callable[..., Published], link: Link
) -> None:
    leave = threading.Event()
    with serving(lambda _: leave.wait(30)) as port:
        published = opened(port)
        with connected(published, port) as client:
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.sendall(MANY * 8)
            assert link.counts(5)
            published.close()
            assert ended(client)
        leave.set()
    assert until(lambda: not published._held)


def test_one_past_the_most_is_refused(
    opened: Callable[..., Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.toolkit.supervised.ports._MOST_CONNECTIONS", 3)
    with serving(echo) as port:
        published = opened(port)
        clients = [connected(published, port) for _ in range(3)]
        assert until(lambda: len(published._held) == 3)
        assert refused(published, port)
        clients.pop().close()
        assert until(lambda: len(published._held) == 2)
        clients.append(connected(published, port))
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            client.close()


def test_closing_breaks_off_and_listens_no_more(opened: Callable[..., Published]) -> None:
    with serving(echo) as port:
        published = opened(port)
        address = published.address_of(port)
        client = connected(published, port)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        published.close()
        assert ended(client)
        client.close()
        with pytest.raises(OSError):
            socket.create_connection(address, 5)
        with pytest.raises(SandboxLostError):
            published.address_of(port)


def test_a_supervisor_that_is_gone_ends_what_is_carried(
    opened: Callable[..., Published], link: Link
) -> None:
    with serving(echo) as port:
        published = opened(port)
        client = connected(published, port)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        link.close()
        assert ended(client)
        assert refused(published, port)
        client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_C12_a_forked_child_holds_no_port(opened: Callable[..., Published]) -> None:
    with serving(echo) as port:
        published = opened(port)
        address = published.address_of(port)
        client = connected(published, port)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        ours, theirs = os.pipe()
        there, begun = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            os.write(begun, b"!")
            os.read(ours, 1)  # until the parent has looked
            os._exit(0)
        assert os.read(there, 1) == b"!"
        client.sendall(b"y")
        assert client.recv(1) == b"y"
        published.close()
        assert ended(client)
        with pytest.raises(OSError):
            socket.create_connection(address, 5)
        for end in (ours, theirs, there, begun):
            os.close(end)
        assert os.waitpid(child, 0)[1] == 0
        client.close()


def test_without_a_thread_it_is_not_opened(link: Link) -> None:
    published = Published(link)
    with few_threads(), pytest.raises(SandboxStartError, match="no thread"):
        published.open([80])
    assert [listener.fileno() for listener in published._listeners.values()] == [-1]


def test_without_a_thread_a_connection_is_refused(opened: Callable[..., Published]) -> None:
    with serving(echo) as port:
        published = opened(port)
        for allowed in range(2):  # each takes two
            with few_threads(allowed, "stockade-ports"):
                assert refused(published, port)
        assert until(lambda: not published._held)
        with connected(published, port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"


def test_a_stream_that_is_ended_leaves_no_thread(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that holds open what was closed to it."""
    monkeypatch.setattr("stockade.toolkit.supervised.egress._LINGER_SECONDS", 0.2)
    came: list[int] = []
    link.on_opened = lambda number, _: came.append(number)
    port = link.listen(10)
    with socket.create_connection(("127.0.0.1", port), 10) as program:
        assert until(lambda: came)
        ours, theirs = socket.socketpair()
        stream: Any = carry(link, came[0], ours)
        theirs.close()
        assert ended(program)
        assert until(lambda: not [t for t in threading.enumerate() if "egress" in t.name])
        with pytest.raises(LinkLost):
            stream.wait(lambda: None)


def test_programs_connect_where_they_were_led(link: Link, tmp_path: Path) -> None:
    """Each connection says which of the places that are listened on it came to."""
    came: list[tuple[int, int]] = []
    link.on_opened = lambda number, door: came.append((number, door))
    with socket.create_server(("127.0.0.9", 0)) as taken:
        held = taken.getsockname()[1]
        places = [
            ("127.0.0.1", link.listen(10)),
            ("127.0.0.2", link.listen(10, "127.0.0.2", held)),
            ("127.0.0.9", link.listen(10, "127.0.0.9", held)),
        ]
    assert places[1][1] == held and places[2][1] != held, "another one, where it is taken"
    path = str(tmp_path / "socket")
    link.listen_at(path, 10)
    assert os.stat(path).st_mode & 0o777 == 0o666
    every: list[tuple[str, int] | str] = [*places, path]
    for door, place in enumerate(every):
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as program:
            program.connect(place)
            assert until(lambda door=door: len(came) > door)  # type: ignore[misc]
            assert came[-1][1] == door
            refuse(link, came[-1][0])


def test_a_place_that_is_not_to_be_had_is_an_error(link: Link, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken", tmp_path / "none" / "x", tmp_path / ("x" * 200)):
        with pytest.raises(LinkLost, match="nothing could be listened on"):
            link.listen_at(str(path), 10)
    with pytest.raises(LinkLost, match="nothing could be listened on"):
        for _ in range(65):
            link.listen(10)
