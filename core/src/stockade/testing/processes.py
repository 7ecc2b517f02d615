"""Checks that need another process: what it is given, and a ledger that both use."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import stockade
from stockade.capabilities import NEEDS
from stockade.errors import StockadeError
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._collecting import collect
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing.base import ConformanceBase
from stockade.values.options import render

__all__ = ["LEAVER", "START", "OtherProcesses"]

#: How a program for another process begins: what it is given, and its runtime.
START = """
import json, sys, time
import stockade
from stockade.capabilities import NEEDS
from stockade.values.options import render
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime
given = json.load(sys.stdin)
runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(given["ledger"]))
"""

#: Opens a durable session, and leaves it.
LEAVER = (
    START
    + """
session = stockade.open(given["string"], agent_id="owner", runtime=runtime)
session.detach()
runtime.ledger.flush()
print(session.session_id, flush=True)
"""
)


class OtherProcesses(ConformanceBase):
    """What checks with other processes share."""

    @contextlib.contextmanager
    def _ledger(self, **options: str) -> Iterator[tuple[Runtime, str, str]]:
        """A runtime with a ledger of its own, the provider's string with these options, and
        the ledger's path; all that is left at the end is removed."""
        if not self.provider:
            pytest.skip("the suite was given a provider object, not a string")
        made = self.make_provider()
        string = self._string(made, options)
        with tempfile.TemporaryDirectory(prefix="stockade-ledger-") as folder:
            path = str(Path(folder, "ledger.sqlite"))
            runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(path))
            try:
                yield runtime, string, path
            finally:
                assert runtime.ledger is not None
                with contextlib.suppress(StockadeError):
                    ours = [record.session_id for record in runtime.ledger.sessions()]
                    collect(runtime=runtime, strings=[string], force=ours)
                runtime.close_all()

    def _string(self, made: WallProvider, options: dict[str, str]) -> str:
        """The provider's string, without what the wall cannot hold (see ``make_provider``)."""
        given = self.provider.partition("?")[2]
        plain = stockade.provider(self.provider).config
        for need in NEEDS:
            value = getattr(made.config, need.field)
            if value != getattr(plain, need.field):
                options[need.field] = render(value)
        seconds = made.config.startup_timeout_seconds * self.time_factor
        options.setdefault("startup_timeout_seconds", f"{min(seconds, 86_400):g}")
        added = "&".join(f"{k}={v}" for k, v in options.items() if f"{k}=" not in given)
        return f"{self.provider}{'&' if given else '?'}{added}"

    @contextlib.contextmanager
    def _process(
        self, code: str, *, env: Mapping[str, str] | None = None, **given: object
    ) -> Iterator[subprocess.Popen[str]]:
        """Another Python that runs ``code`` and is given these on its standard input; ``env``
        overrides this process's variables."""
        path = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(given))
            process.stdin.close()
            process.stdin = None  # communicate would flush it
            yield process
        finally:
            process.kill()
            process.wait()
            for file in (process.stdout, process.stderr):
                if file is not None:
                    file.close()
