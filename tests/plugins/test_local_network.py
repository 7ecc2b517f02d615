"""The host's network in the local walls: with a warning, and with none of its unix sockets."""

from __future__ import annotations

import contextlib
import http.server
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from core.toolkit.local.others import run_as_other
from stockade import UnsupportedError
from stockade.toolkit.local import cgroups, landlock


@pytest.fixture
def networked(wall: str) -> str:
    support = stockade.provider(wall).wall.capabilities["network"]
    if not support:
        pytest.skip(support.note)
    return wall


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"of this machine")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def page() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


ASK = "import urllib.request as u; print(u.urlopen('http://localhost:{port}/').read().decode())"


def test_it_is_reached_with_a_warning(
    networked: str, page: int, caplog: pytest.LogCaptureFixture
) -> None:
    ask = ASK.format(port=page)
    with stockade.open(networked, network_enabled=True) as session:
        assert session.code(ask).stdout == "of this machine\n"
        # What resolves names here does so inside.
        own = Path("/etc/resolv.conf").read_text()
        assert session.run(["cat", "/etc/resolv.conf"]).stdout == own
        (record,) = [found for found in caplog.records if found.name == "stockade.isolation"]
        assert record.levelno == logging.WARNING
        words = record.getMessage()
        for part in (session.session_id, networked, "own network", "loopback", "metadata"):
            assert part in words
    caplog.clear()
    with stockade.open(networked) as session:
        assert not session.code(ask).success
        assert session.run(["cat", "/etc/resolv.conf"]).stdout == ""
    assert not [found for found in caplog.records if found.name == "stockade.isolation"]


_REACH = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    name = "\\0%s-%d" % (sys.argv[1], kind)
    with socket.socket(socket.AF_UNIX, kind) as asking:
        try: asking.connect(name); print("connected", kind)
        except PermissionError: pass
    if kind != socket.SOCK_DGRAM: continue
    with socket.socket(socket.AF_UNIX, kind) as asking:
        try: asking.sendto(b"x", name); print("sent")
        except PermissionError: pass
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind("\\0" + sys.argv[1]); server.listen()
    client.connect("\\0" + sys.argv[1]); print("its own")
"""


@contextlib.contextmanager
def listening(mark: str) -> Iterator[None]:
    """An abstract unix socket of each kind, as ``_REACH`` asks for them."""
    with contextlib.ExitStack() as held:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            made = held.enter_context(socket.socket(socket.AF_UNIX, kind))
            made.bind(f"\0{mark}-{int(kind)}")
            if kind != socket.SOCK_DGRAM:
                made.listen()
        yield


def test_E3_abstract_unix_sockets_of_others_are_out_of_reach(networked: str) -> None:
    mark = f"stockade-network-{os.getpid()}-{networked}"
    with listening(mark), stockade.open(networked, network_enabled=True) as session:
        result = session.run(["python3", "-c", _REACH, mark])
        assert result.stdout == "its own\n", result
        # Nor those of another session on the same network (E8).
        held = f"{mark}-held"
        listen = (
            "import socket, time\ns = socket.socket(socket.AF_UNIX)\n"
            f"s.bind('\\0{held}'); s.listen(); print(1, flush=True); time.sleep(60)\n"
        )
        holding = session.stream(code=listen)
        holding.take()
        knock = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{held}')"
        assert session.run(["python3", "-c", knock]).success
        with stockade.open(networked, network_enabled=True) as other:
            refused = other.run(["python3", "-c", knock])
            assert "PermissionError" in refused.stderr, refused
        holding.cancel()
        # The network changes nothing of a program's rights (E1).
        assert "NoNewPrivs:\t1" in session.run(["cat", "/proc/self/status"]).stdout


def test_E3_nothing_of_the_network_is_changed(networked: str) -> None:
    """Neither its settings nor its interfaces; watched limits would set some of their own."""
    names = ("ipv4/tcp_rmem", "ipv4/tcp_wmem", "core/somaxconn")
    before = [Path("/proc/sys/net", name).read_text() for name in names]
    code = (
        "import fcntl, socket, struct\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "try: fcntl.ioctl(s, 0x8914, struct.pack('16sh22x', b'lo', 0)); print('down')\n"
        "except PermissionError: print('refused')\n"
        "try: open('/proc/sys/net/core/somaxconn', 'w').write('1'); print('set')\n"
        "except OSError: print('refused')\n"
    )
    with stockade.open(networked, network_enabled=True) as session:
        assert session.code(code).stdout == "refused\nrefused\n"
        assert [Path("/proc/sys/net", name).read_text() for name in names] == before


def test_where_it_cannot_be_honest_it_is_refused(
    wall: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(landlock, "abi", lambda: 5)
        with pytest.raises(UnsupportedError, match="network_enabled.*abstract unix sockets"):
            stockade.open(wall, network_enabled=True)
    with pytest.raises(UnsupportedError, match="network_enabled.*without a cgroup"):
        stockade.open(f"{wall}?limits=watch", network_enabled=True)
    with monkeypatch.context() as patch:
        patch.setattr(cgroups, "parents", dict)
        with pytest.raises(UnsupportedError, match="network_enabled"):
            stockade.open(wall, network_enabled=True)


def test_the_command_line_says_it(networked: str, page: int) -> None:
    argv = [sys.executable, "-m", "stockade.cli", "run", "-p", networked]
    ask = ["--", "python3", "-c", ASK.format(port=page)]
    done = subprocess.run([*argv, "--network", *ask], capture_output=True, text=True, check=False)
    assert done.stdout == "of this machine\n", done
    assert done.stderr.count("\n") == 1 and "own network" in done.stderr, done.stderr
    closed = subprocess.run([*argv, *ask], capture_output=True, text=True, check=False)
    assert closed.returncode == 1 and "own network" not in closed.stderr


_AS_A_USER = """
import os, sys, stockade
os.setgroups([]); os.setgid(4712); os.setuid(4711); os.environ["HOME"] = "/"
from stockade.toolkit.local import LocalWall
# Without a cgroup it is refused: what is looked at here are namespaces and Landlock.
LocalWall._network = lambda self: ("native", "")
with stockade.open(sys.argv[1], network_enabled=True, memory_mb=None) as s:
    print(s.run(["python3", "-c", sys.argv[2], sys.argv[3]]).stdout, end="")
    print(s.run(["python3", "-c", sys.argv[4]]).stdout, end="")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_E3_an_ordinary_users_reaches_no_more(wall: str, page: int) -> None:
    if not landlock.has_scopes(landlock.abi()):
        pytest.skip("needs Landlock 6 (Linux 6.12)")
    mark = f"stockade-network-{os.getpid()}-user"
    with listening(mark):
        done = run_as_other(_AS_A_USER, wall, _REACH, mark, ASK.format(port=page))
    assert done.stdout == "its own\nof this machine\n", done
