"""Stands in for the package of this name where there is no KVM: the same calls, no wall.

Code runs in the process itself, which is what the wall's own process is for: the pool, the
deadlines and the files around it are tested with it, never isolation.
"""

from __future__ import annotations

import contextlib
import io
import os
import types
from typing import Any


class Sandbox:
    def __init__(self, *, output_dir: str, **_: Any) -> None:
        self._output = output_dir
        self._tools: dict[str, Any] = {}
        self._memory: dict[str, Any] = {}

    def register_tool(self, name: str, function: Any) -> None:
        self._tools[name] = function

    def allow_domain(self, target: str) -> None:
        return

    def run(self, code: str) -> Any:
        out, err = io.StringIO(), io.StringIO()
        status = 0
        space = {"call_tool": self._call, "http_get": None, "http_post": None, "memory": self}
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                exec(code, space)
            except SystemExit as error:
                status = int(error.code or 0)
            except RuntimeError:
                raise
            except Exception as error:
                err.write(f"{type(error).__name__}: {error}\n")
                status = 1
        done = types.SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue(), exit_code=status)
        done.success = status == 0
        return done

    def _call(self, name: str, **arguments: Any) -> Any:
        return self._tools[name](**arguments)

    def snapshot(self) -> object:
        return object()

    def restore(self, snapshot: object) -> None:
        for name in os.listdir(self._output):
            os.unlink(os.path.join(self._output, name))
