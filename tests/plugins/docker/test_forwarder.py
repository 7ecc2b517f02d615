"""The forwarder inside goes on whatever is asked of it (E10)."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from importlib.resources import files

_HEAD = struct.Struct(">IcI")


def test_it_refuses_the_connection_for_which_no_descriptor_is_left() -> None:
    code = files("stockade.resident").joinpath("forwarder.py").read_text()
    argv = ["sh", "-c", 'ulimit -n 32; exec "$@"', "sh", sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, bufsize=0, stdin=pipe, stdout=pipe) as forwarder:
        assert forwarder.stdin is not None and forwarder.stdout is not None
        port = int(forwarder.stdout.readline())
        crowd = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(60)]
        assert crowd[-1].recv(1) == b""  # refused, not left waiting
        crowd[0].sendall(b"still carried")
        data = b""
        while not data.endswith(b"still carried"):
            piece = forwarder.stdout.read(65536)
            assert piece
            data += piece
        for connection in crowd:
            connection.close()
        forwarder.stdin.close()
        assert forwarder.wait(10) == 0
