"""What the gateway costs: sealed and opened, beside a connection without it, and mitmproxy.

``--mitmdump PATH`` names mitmproxy's program, in an environment of its own
(``python -m venv m && m/bin/pip install mitmproxy``). All ways serve the same client the same
bytes from the same server on loopback, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import parser_of, save_rows

from stockade.config import SandboxConfig, Secret
from stockade.toolkit.egress import Gateway, Limits, WayOut
from stockade.wall import OpenRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from plugins.secrets.servers import Certified, certified

VALUE = "benchmarked-value-of-32-letters."
NAME = "api.example"
MIB = 1 << 20

#: Cpu seconds of each connection that a gateway served: of a busy machine the better measure.
spent: list[float] = []

Way = Callable[[], contextlib.AbstractContextManager[ssl.SSLSocket]]


def serve(port: socket.socket, context: ssl.SSLContext) -> None:
    """``GET /N``: N bytes, on connections that stay."""
    piece = os.urandom(64 * 1024)

    def one(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = tls.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                left = int(head.split(b" ")[1].rpartition(b"/")[2] or 0)
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
                while left:
                    tls.sendall(piece[:left])
                    left -= min(left, len(piece))

    while True:
        sock, _ = port.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=one, args=(sock,), daemon=True).start()


def server(files: Certified) -> int:
    """In a process of its own, as servers are. Its port."""
    port = socket.create_server((NAME_HOST, 0), backlog=512)
    if os.fork() == 0:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        serve(port, files.context())
    number: int = port.getsockname()[1]
    port.close()
    return number


NAME_HOST = "127.0.0.1"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def gateway(port: int, *, opened: bool) -> Gateway:
    place = f"{NAME}:{port}=loopback"
    fields = (
        {"secrets": [Secret("key", lambda: VALUE, hosts=[place])]}
        if opened
        else {"network_allow": [place]}
    )
    request = OpenRequest(
        session_id="b",
        agent_hash="b",
        target=None,
        config=SandboxConfig().with_(**fields),
    )
    way_out = WayOut.of(request)
    assert way_out is not None
    return Gateway(way_out, limits=Limits(connections=512))


@contextlib.contextmanager
def tunnel(sock: socket.socket, port: int, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    sock.sendall(f"CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n".encode())
    while not sock.recv(4096).endswith(b"\r\n\r\n"):
        pass
    with trust.wrap_socket(sock, server_hostname=NAME) as tls:
        yield tls


@contextlib.contextmanager
def through(made: Gateway, port: int, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    near, far = socket.socketpair()

    def serving() -> None:
        made.serve(far)
        spent.append(time.thread_time())

    thread = threading.Thread(target=serving, daemon=True)
    thread.start()
    with near, tunnel(near, port, trust) as tls:
        yield tls
    near.close()
    thread.join()


@contextlib.contextmanager
def directly(port: int, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection((NAME_HOST, port)) as sock:
        with trust.wrap_socket(sock, server_hostname=NAME) as tls:
            yield tls


@contextlib.contextmanager
def by_proxy(proxy: int, port: int, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection((NAME_HOST, proxy)) as sock, tunnel(sock, port, trust) as tls:
        yield tls


@contextlib.contextmanager
def mitmproxy(program: str, files: Certified) -> Iterator[tuple[int, ssl.SSLContext]]:
    """As an opened gateway: TLS ended, answers streamed, the server's certificate checked."""
    with socket.create_server((NAME_HOST, 0)) as free:
        number = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "confdir": folder,
            "stream_large_bodies": "1",
            "connection_strategy": "lazy",
            "ssl_verify_upstream_trusted_ca": str(files.authority),
            "http2": "false",
            "map_remote": f"|//{NAME}:|//{NAME_HOST}:",
        }
        words = [part for name, text in options.items() for part in ("--set", f"{name}={text}")]
        command = [program, "-q", "--listen-host", NAME_HOST, "-p", str(number), *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            authority = Path(folder, "mitmproxy-ca-cert.pem")
            until = time.monotonic() + 60
            while not _answers(number) or not authority.exists():
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError("mitmproxy did not start")
                time.sleep(0.1)
            yield number, ssl.create_default_context(cafile=str(authority))
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection((NAME_HOST, port), 1).close()
    except OSError:
        return False
    return True


def ask(tls: ssl.SSLSocket, port: int, size: int) -> None:
    """One request, and all of its answer."""
    tls.sendall(f"GET /{size} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = tls.recv(65536)
        if not piece:
            raise RuntimeError(f"no answer: {head[:200]!r}")
        head += piece
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"another answer: {head[:200]!r}")
    left = size - len(head.partition(b"\r\n\r\n")[2])
    room = bytearray(256 * 1024)
    while left:
        count = tls.recv_into(room)
        if not count:
            raise RuntimeError("the answer was cut off")
        left -= count


def rate(way: Way, port: int, mebibytes: int) -> float:
    """MB of an answer in a second."""
    with way() as tls:
        began = time.perf_counter()
        ask(tls, port, mebibytes * MIB)
        return mebibytes * MIB / 1e6 / (time.perf_counter() - began)


def latency(way: Way, port: int, count: int) -> float:
    """Milliseconds of a small request on a connection that stands, at p50."""
    with way() as tls:
        ask(tls, port, 100)
        times = []
        for _ in range(count):
            began = time.perf_counter()
            ask(tls, port, 100)
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def at_once(way: Way, port: int, count: int) -> float:
    """Seconds until so many connections, all open at a time, were answered."""
    ready, failed = threading.Barrier(count + 1), list[BaseException]()

    def one() -> None:
        try:
            with way() as tls:
                ask(tls, port, 1000)
                ready.wait(120)
        except BaseException as error:
            failed.append(error)
            ready.abort()

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait(120)
    seconds = time.perf_counter() - began
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(f"{len(failed)} of {count} failed") from failed[0]
    return seconds


def measured(ways: dict[str, Way], port: int, options: argparse.Namespace) -> dict[str, float]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    delays: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            spent.clear()
            rates[name].append(rate(way, port, options.mebibytes))
            if spent:
                work[name].append(options.mebibytes * MIB / 1e6 / spent[0])
            delays[name].append(latency(way, port, 100))
    rows: dict[str, float] = {}
    for name in ways:
        if work[name]:
            rows[f"{name}: MB in a cpu second"] = statistics.median(work[name])
        rows[f"{name}: MB/s"] = statistics.median(rates[name])
        rows[f"{name}: ms at p50"] = statistics.median(delays[name])
    return rows


def flat(way: Way, port: int) -> float:
    """MiB by which this process's peak grows over 1 GB of one answer."""
    rate(way, port, 64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rate(way, port, 1000)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = parser_of(5)
    parser.add_argument("--mebibytes", type=int, default=128, help="of each transfer")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--mitmdump", help="mitmproxy's program, to compare")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        files = certified(Path(folder), NAME)
        os.environ["SSL_CERT_FILE"] = str(files.authority)
        port = server(files)
        own = ssl.create_default_context(cafile=str(files.authority))
        sealed, opened = (gateway(port, opened=yes) for yes in (False, True))
        assert opened.opener is not None
        inside = ssl.create_default_context(cadata=opened.opener.bundle.decode())
        ways: dict[str, Way] = {
            "direct": functools.partial(directly, port, own),
            "sealed": functools.partial(through, sealed, port, own),
            "opened": functools.partial(through, opened, port, inside),
        }
        if options.mitmdump:
            proxy, trust = stack.enter_context(mitmproxy(options.mitmdump, files))
            ways["mitmproxy"] = functools.partial(by_proxy, proxy, port, trust)
        rows = measured(ways, port, options)
        for name in ("sealed", "opened"):
            rows[f"{name}: s for {options.connections} at once"] = at_once(
                ways[name], port, options.connections
            )
            rows[f"{name}: MiB more over 1 GB"] = flat(ways[name], port)
    for name, value in rows.items():
        print(f"  {name:<36} {value:9.2f}")
    save_rows(options.json, rows)


if __name__ == "__main__":
    main()
