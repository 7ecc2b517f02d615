"""Terminals, the way out to named hosts, and roots with no program but the caller's."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from stockade.toolkit.egress import addresses


def test_D19_a_terminal(wall: str) -> None:
    with stockade.open(wall) as session:
        terminal = session.terminal(
            ["sh", "-c", "tty; stty size; read x; echo got $x; exit 7"], rows=33, columns=101
        )
        terminal.write(b"word\n")
        shown = b""
        while piece := terminal.read():
            shown += piece
        assert b"/dev/pts/" in shown and b"33 101" in shown and b"got word" in shown
        assert terminal.exit_code() == 7
        terminal.close()


def test_E8_terminals_are_bounded(wall: str) -> None:
    """This machine has some thousands for all."""
    code = (
        "import os\nheld = []\ntry:\n"
        "  while True: held.append(os.openpty())\n"
        "except OSError: print(len(held))\n"
    )
    with stockade.open(wall) as session:
        assert 32 <= int(session.code(code).stdout) <= 64


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} for {self.headers['Host']}".encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What allowed.example leads to."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(addresses, "resolve", lambda *_: [("127.0.0.1", server.server_port)])
    yield
    server.shutdown()
    server.server_close()


_ASK = """
import urllib.error, urllib.request
for name in ("allowed.example", "evil.example", "192.0.2.1"):
    try: print(urllib.request.urlopen(f"http://{name}/x", timeout=10).read().decode())
    except urllib.error.HTTPError as error: print(error.code)
"""


@pytest.mark.usefixtures("page")
def test_E10_a_named_host_is_reached_and_no_other(wall: str) -> None:
    with stockade.open(wall, network_allow=["allowed.example"]) as session:
        said = session.code(_ASK).stdout.splitlines()
        assert said == ["/x for allowed.example", "403", "403"]
        assert session.shell("cat /proc/net/route | wc -l").stdout.strip() == "1"
        # What the caller says of the way stands.
        own = session.run(["sh", "-c", "echo $http_proxy"], env={"http_proxy": "other"})
        assert own.stdout == "other\n"
    with pytest.raises(stockade.ConfigError, match="network_allow"):
        stockade.open(wall, network_allow=["10.0.0.1"])


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Path]:
    """A root with one static program and nothing else."""
    busybox = shutil.which("busybox")
    if busybox is None or b"/ld-" in Path(busybox).read_bytes()[:4096]:
        pytest.skip("needs a static busybox (apt-get install busybox-static)")
    made = Path("/var/tmp") / f"stockade-bare-{os.getpid()}-{tmp_path.name}"
    made.mkdir()
    shutil.copy(busybox, made / "cat")
    yield made
    shutil.rmtree(made)


def test_a_root_needs_no_shell(bubblewrap: str, bare: Path) -> None:
    assert stockade.provider(f"{bubblewrap}:{bare}").availability()
    with stockade.open(f"{bubblewrap}:{bare}") as session:
        result = session.run(["/cat"], stdin=b"through")
        assert result.stdout == "through"
        assert session.run(["/cat", "/etc/passwd"]).stdout.startswith("root:x:0:0:")
        assert session.run(["sh", "-c", "true"]).exit_code == 127
        session.files.write("/workspace/f", b"written")
        assert session.files.read("/workspace/f") == b"written"
