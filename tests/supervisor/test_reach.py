"""What the supervisor finds that it can reach: for walls whose network is somebody else's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

import pytest


def reach(program: str, *targets: str, ms: int = 500) -> tuple[int, list[str]]:
    done = subprocess.run(
        [program, "reach", str(ms), *targets], capture_output=True, text=True, check=False
    )
    return done.returncode, sorted(done.stdout.splitlines())


def _closed_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


def test_who_listens_answers(sanitized: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"tcp/127.0.0.1/{server.getsockname()[1]}"
        assert reach(sanitized, target) == (0, [f"{target} answered"])


def test_who_refuses_was_reached(sanitized: str) -> None:
    stream = f"tcp/127.0.0.1/{_closed_port(socket.SOCK_STREAM)}"
    datagram = f"udp/127.0.0.1/{_closed_port(socket.SOCK_DGRAM)}"
    assert reach(sanitized, stream, datagram) == (0, [f"{stream} refused", f"{datagram} refused"])


def test_who_answers_a_datagram_is_reported(sanitized: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        target = f"udp/127.0.0.1/{server.getsockname()[1]}"
        asking = subprocess.Popen(
            [sanitized, "reach", "5000", target], stdout=subprocess.PIPE, text=True
        )
        server.settimeout(5)
        question, whence = server.recvfrom(512)
        server.sendto(question, whence)
        said, _ = asking.communicate(timeout=10)
    assert said == f"{target} answered\n"


def test_who_is_silent_is_waited_for_as_long_as_was_said(sanitized: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        found = reach(sanitized, f"udp/127.0.0.1/{server.getsockname()[1]}", ms=300)
        assert found == (0, [])
        assert time.monotonic() - begun >= 0.3


def test_without_a_route_nothing_is_reached(sanitized: str) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here; apt-get install util-linux")
    program = ["unshare", "--user", "--map-root-user", "--net", sanitized]
    targets = ["tcp/127.0.0.1/9", "udp/127.0.0.1/53", "tcp/10.0.0.1/443", "tcp/::1/9"]
    done = subprocess.run(
        [*program, "reach", "500", *targets], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "word",
    ["tcp/127.0.0.1", "icmp/127.0.0.1/1", "tcp/host/1", "tcp/::1/0", "tcp/1.1.1.1/x", "x" * 200],
)
def test_what_is_no_target_is_refused(sanitized: str, word: str) -> None:
    code, said = reach(sanitized, "tcp/127.0.0.1/9", word)
    assert (code, said) == (125, [])
