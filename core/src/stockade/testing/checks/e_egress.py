"""Checks of E10: named hosts are reached, and nothing else is."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator

from stockade.capabilities import Feature
from stockade.errors import ConfigError
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.checks.reaching import CONNECT, own_address

__all__ = ["Egress"]

#: Prints what answers; by hand, since a small image's Python has nothing that speaks HTTP.
_ASK = """
import os, socket
proxy = os.environ.get("http_proxy", "").rpartition("/")[2]
for url in {urls!r}:
    place = url.split("/")[2]
    host, _, port = (proxy or place).partition(":")
    what = url if proxy else "/"
    head = "GET %s HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n" % (what, place)
    try:
        with socket.create_connection((host, int(port or 80)), 4) as asked:
            asked.sendall(head.encode())
            status = asked.recv(1000).split()[1:2]
            if status and status[0] < b"400": print("in", url, status[0].decode())
    except OSError: pass
"""


class Egress(ConformanceBase):
    """The way out to named hosts."""

    def test_E10_an_allow_list_opens_nothing_else(self) -> None:
        provider = self.make_provider()
        if not provider.wall.capabilities[Feature.ALLOW_LIST]:
            config = provider.config.with_(network_enabled=False, network_allow=("example.org",))
            self.refused("E10", lambda: provider.create_session("a", config), Feature.ALLOW_LIST)
            return
        with self.shared() as session:
            self.need_python(session)
        with (
            socket.create_server(("0.0.0.0", 0)) as listener,
            self.session(network_allow=("allowed.invalid",)) as session,
        ):
            port, own = listener.getsockname()[1], own_address()
            hosts = ("127.0.0.1", own)
            raw = session.code(CONNECT.format(hosts=hosts, port=port), timeout=self.scaled(40))
            expect(not raw.stdout, "E10", "no raw address, no other name", raw.stdout)
            urls = (
                f"http://{own}:{port}/",
                "http://other.invalid/",
                "http://localhost/",
                f"http://allowed.invalid:{port}/",
                f"http://allowed.invalid.{own}.nip.io/",
            )
            asked = session.code(_ASK.format(urls=urls), timeout=self.scaled(50))
            expect(not asked.stdout, "E10", "no answer but from the named host", asked.stdout)

    def test_E10_a_name_leads_to_no_private_network(self) -> None:
        """The owner of an allowed name can let it lead anywhere, such as to the host itself."""
        self.need(Feature.ALLOW_LIST)
        with self.shared() as session:
            self.need_python(session)
        with socket.create_server(("0.0.0.0", 0)) as listener, contextlib.ExitStack() as stack:
            name = f"localhost:{listener.getsockname()[1]}"
            try:
                session = stack.enter_context(self.session(network_allow=(name,)))
            except ConfigError:
                return  # refused from the start
            session.code(_ASK.format(urls=(f"http://{name}/",)), timeout=self.scaled(30))
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                expect(False, "E10", "no connection to an address that is not public", name)

    def test_E10_an_entry_opens_a_private_place_and_no_more(self) -> None:
        """A server of this machine's own, by a name that nobody else knows."""
        self.need(Feature.ALLOW_LIST)
        with self.shared() as session:
            self.need_python(session)
        with _server() as named, _server() as other:
            allowed = (f"model.invalid:{named}=loopback", f"away.invalid:{named}=10.255.255.0/30")
            with self.session(network_allow=allowed) as session:
                urls = [
                    f"http://model.invalid:{named}/",
                    f"http://model.invalid:{other}/",
                    f"http://localhost:{named}/",
                    f"http://127.0.0.1:{named}/",
                    f"http://away.invalid:{named}/",
                ]
                asked = session.code(_ASK.format(urls=urls), timeout=self.scaled(60))
                seen = asked.stdout.splitlines()
                expect(seen == [f"in {urls[0]} 200"], "E10", "the named place alone", seen)


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """A web server of the host's loopback, by its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:  # a socket that is closed under the thread would keep it busy for ever
            server.shutdown()
            thread.join()
