"""The process that holds one microVM: the package's objects belong to one thread, and a
guest that does not end can only be ended with its process.

It is given once what to make, then runs one execution after another, each from the
snapshot taken when the guest was new.
"""

from __future__ import annotations

import base64
import fcntl
import os
import resource
import signal
import socket
from time import sleep
from typing import Any

from stockade_hyperlight import wire

__all__ = ["main"]

#: What the hypervisor says when the guest's memory is used up.
_NO_MEMORY = ("Out of physical memory", "Guest aborted: 13")


class _Guest:
    """The sandbox object, its host functions, and its clean state."""

    def __init__(self, connection: socket.socket, spec: dict[str, Any]) -> None:
        from hyperlight_sandbox import Sandbox

        self._connection = connection
        self._exit_code: int | None = None
        self._sandbox = Sandbox(
            backend=spec["backend"],
            module=spec["module"],
            input_dir=spec["input"],
            output_dir=spec["output"],
            heap_size=spec["heap"],
            stack_size=spec["stack"],
            **spec["limits"],
        )
        self._register("_stockade_write", self._write)
        self._register("_stockade_read", self._read)
        self._register("_stockade_sleep", self._sleep)
        self._register("_stockade_exit", self._exit)
        for name in spec["tools"]:
            self._register(name, self._tool(name))
        for target in spec["allow"]:
            self._sandbox.allow_domain(target)
        made = self._sandbox.run(spec["prelude"])
        if not made.success:
            raise RuntimeError(f"the guest did not take its prelude: {made.stderr[:500]}")
        self._clean = self._sandbox.snapshot()

    def _register(self, name: str, function: Any) -> None:
        self._sandbox.register_tool(name, function)

    # -- host functions ------------------------------------------------------

    def _write(self, **given: Any) -> int:
        data = given["text"].encode("utf-8", "replace") if "text" in given else None
        if data is None:
            data = base64.b64decode(str(given["data"]))
        wire.send(self._connection, b"e" if given.get("stream") == 2 else b"o", data)
        return 0

    def _read(self, **given: Any) -> str:
        wire.send_json(self._connection, b"i", max(0, min(int(given["size"]), 65536)))
        _, data = wire.receive(self._connection)
        return base64.b64encode(data).decode()

    def _sleep(self, **given: Any) -> int:
        sleep(max(0.0, float(given["seconds"])))
        return 0

    def _exit(self, **given: Any) -> int:
        self._exit_code = int(given["code"]) & 0xFF
        return 0

    def _tool(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            import json

            wire.send_json(self._connection, b"t", {"name": name, "arguments": arguments})
            answer = json.loads(wire.receive(self._connection)[1])
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return answer["value"]

        return call

    # -- one execution -------------------------------------------------------

    def run(self, code: str) -> dict[str, Any]:
        """How it ended."""
        self._exit_code = None
        try:
            done = self._sandbox.run(code)
        except Exception as error:
            return self._broken(str(error))
        for kind, text in ((b"o", done.stdout), (b"e", done.stderr)):
            if text and done.exit_code >= 0:
                wire.send(self._connection, kind, text.encode("utf-8", "replace"))
        if done.exit_code < 0:
            return self._broken(done.stderr)
        asked = self._exit_code
        return {"code": done.exit_code & 0xFF if asked is None else asked}

    def _broken(self, said: str) -> dict[str, Any]:
        if any(words in said for words in _NO_MEMORY):
            return {"memory": True}
        first = said.strip().splitlines()[0] if said.strip() else "no reason was given"
        wire.send(self._connection, b"e", f"the guest broke down: {first[:500]}\n".encode())
        return {"signal": int(signal.SIGABRT)}

    def restore(self) -> None:
        """Back to the clean state. It clears the guest's output folder, too."""
        self._sandbox.restore(self._clean)


def _end_with_owner(lifeline: int) -> None:
    """Have the kernel end this process when the other end closes, whatever runs here."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        if not os.read(lifeline, 1):
            os._exit(1)  # it closed before
    except BlockingIOError:
        pass


def main(descriptor: int, lifeline: int) -> None:
    """Serve until the connection ends."""
    _end_with_owner(lifeline)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import json

    connection = socket.socket(fileno=descriptor)
    try:
        spec = json.loads(wire.receive(connection)[1])
        try:
            guest = _Guest(connection, spec)
        except Exception as error:
            wire.send(connection, b"f", f"{type(error).__name__}: {error}"[:2000].encode())
            return
        while True:
            wire.send(connection, b"h")
            _, code = wire.receive(connection)
            ended = guest.run(code.decode("utf-8", "surrogatepass"))
            wire.send_json(connection, b"x", ended)
            wire.receive(connection)  # its files are taken away before they are cleared
            if "code" not in ended or not spec["keep"]:
                # It raises where the guest took the hypervisor's state down with it: this
                # process ends then, and the session makes another.
                guest.restore()
    except EOFError:
        return
