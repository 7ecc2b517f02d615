"""Ways to run programs in containers: stockade's, and three of the engine's own."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from typing import Any

import docker

import stockade

__all__ = ["OUTPUT_BYTES", "CommandLine", "DockerPy", "Raw", "Stockade"]

#: What the row of much output prints.
OUTPUT_BYTES = 100_000_000
_PRINT_MUCH = ["head", "-c", str(OUTPUT_BYTES), "/dev/zero"]


class UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")


class Raw:
    """The engine's API, one request after another over one connection."""

    name = "raw API"

    def __init__(self, image: str, runtime: str) -> None:
        self.image, self.runtime = image, runtime
        self.link = UnixConnection("localhost")

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body)
        self.link.request(method, path, data, {"Content-Type": "application/json"})
        return self.link.getresponse().read()

    def create(self) -> str:
        body = {
            "Image": self.image,
            "Cmd": ["sleep", "infinity"],
            "HostConfig": {"NetworkMode": "none", "Runtime": self.runtime},
        }
        made: str = json.loads(self._ask("POST", "/containers/create", body))["Id"]
        self._ask("POST", f"/containers/{made}/start")
        return made

    def execute(self, box: str, argv: list[str]) -> None:
        body = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True}
        made = json.loads(self._ask("POST", f"/containers/{box}/exec", body))["Id"]
        self._ask("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})
        self.link.close()  # the answer of an exec ends with its connection

    def print_much(self, box: str) -> int:
        body = {"Cmd": _PRINT_MUCH, "AttachStdout": True, "AttachStderr": True}
        made = json.loads(self._ask("POST", f"/containers/{box}/exec", body))["Id"]
        data = json.dumps({"Detach": False, "Tty": False})
        head = {"Content-Type": "application/json"}
        self.link.request("POST", f"/exec/{made}/start", data, head)
        answer, seen = self.link.getresponse(), 0
        while frame := answer.read(8):
            left = int.from_bytes(frame[4:], "big")
            seen += left
            while left:
                left -= len(answer.read(left))
        self.link.close()
        return seen

    def destroy(self, box: str) -> None:
        self._ask("DELETE", f"/containers/{box}?force=1")


class DockerPy:
    name = "docker-py"

    def __init__(self, image: str, runtime: str) -> None:
        self.image, self.runtime = image, runtime
        self.client = docker.from_env()

    def create(self) -> Any:
        return self.client.containers.run(
            self.image,
            ["sleep", "infinity"],
            detach=True,
            network_mode="none",
            runtime=self.runtime,
        )

    def execute(self, box: Any, argv: list[str]) -> None:
        assert box.exec_run(argv, demux=True).exit_code == 0

    def print_much(self, box: Any) -> int:
        # As a stream: read whole, with the streams apart, 20 MB of it take 12 s.
        pieces = box.exec_run(_PRINT_MUCH, stream=True, demux=True).output
        return sum(len(out or b"") for out, _ in pieces)

    def destroy(self, box: Any) -> None:
        box.remove(force=True)


class CommandLine:
    name = "docker CLI"

    def __init__(self, image: str, runtime: str) -> None:
        self.image, self.runtime = image, runtime

    def _run(self, *argv: str) -> str:
        done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def create(self) -> str:
        return self._run(
            "run",
            "-d",
            "--network=none",
            f"--runtime={self.runtime}",
            self.image,
            "sleep",
            "infinity",
        )

    def execute(self, box: str, argv: list[str]) -> None:
        self._run("exec", box, *argv)

    def print_much(self, box: str) -> int:
        command = ["docker", "exec", box, *_PRINT_MUCH]
        seen = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(1 << 20):
                seen += len(piece)
        return seen

    def destroy(self, box: str) -> None:
        self._run("rm", "-f", box)


class Stockade:
    name = "stockade"

    def __init__(self, string: str) -> None:
        self.string = string
        self.pool = stockade.Pool(string, size=1)

    def create(self) -> stockade.Session:
        return stockade.open(self.string)

    def execute(self, box: stockade.Session, argv: list[str]) -> None:
        if argv[0] == "sh":
            assert box.shell(argv[2]).success
        elif argv[0] == "python3":
            assert box.code(argv[2]).success
        else:
            assert box.run(argv).success

    def print_much(self, box: stockade.Session) -> int:
        return box.run(_PRINT_MUCH).stdout_total_bytes

    def destroy(self, box: stockade.Session) -> None:
        box.close()
