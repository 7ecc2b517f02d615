"""Logging is quiet by default, and never holds a secret, at any level (B4)."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest

import stockade
from conftest import need
from core.walls import ScriptedRunning, ScriptedSandbox, make_provider
from stockade import SandboxLostError, SandboxStartError, Session, StockadeError
from stockade.wall import Exit, Output

SECRET = "s3cr3t"
WALLS = ["landlock", "docker:stockade-test/python", "gvisor:stockade-test/python"]


def test_it_prints_nothing_unless_the_program_listens() -> None:
    code = (
        "import logging, stockade\n"
        "log = logging.getLogger('stockade.sessions._runtime')\n"
        "log.warning('to whom it may concern')\n"
        "logging.basicConfig(level='INFO')\n"
        "log.warning('somebody listens')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (
        done.stdout == "" and done.stderr == "WARNING:stockade.sessions._runtime:somebody listens\n"
    )


@pytest.mark.parametrize("string", WALLS)
def test_a_real_sessions_secrets_are_not_logged(
    string: str, caplog: pytest.LogCaptureFixture
) -> None:
    need(string.partition(":")[0])
    with caplog.at_level(logging.DEBUG):
        with stockade.open(string, env_vars={"TOKEN": f"{SECRET}-session"}) as session:
            options: dict[str, Any] = {
                "env": {"OTHER": f"{SECRET}-execution"},
                "stdin": f"{SECRET}-stdin".encode(),
            }
            session.run(["cat"], **options)
            session.shell(f"echo {SECRET}-line; exit 3", **options)
            session.code(f"print('{SECRET}-code')", **options)
            session.run([f"/{SECRET}-missing"], **options)
            session.run(["sleep", "30"], timeout=0.3, **options)
            session.files.write("secret", f"{SECRET}-file".encode())
            session.files.read("secret")
            for wrong in ({"working_dir": "/nowhere"}, {"timeout": -1}, {"env": {"A": "\0"}}):
                with pytest.raises(StockadeError):
                    session.run(["true"], **{**options, **wrong})
            repr(session), repr(session._record)

            async def main() -> None:
                await stockade.aio.AsyncSession(session).shell(f"echo {SECRET}", **options)

            asyncio.run(main())
    assert SECRET not in caplog.text
    assert not any(SECRET in repr(record.args) for record in caplog.records)


def test_nor_are_they_when_things_go_wrong(caplog: pytest.LogCaptureFixture) -> None:
    def lost(_: ScriptedRunning, __: Output) -> Exit:
        raise SandboxLostError("gone")

    def unwilling(*_: object) -> None:
        raise OSError("no")

    with caplog.at_level(logging.DEBUG):
        provider = make_provider(lost, env_vars={"TOKEN": SECRET})
        session = Session(provider, provider.open_record("a"))
        with pytest.raises(SandboxLostError):
            session.run(["x"], env={"A": SECRET}, stdin=SECRET.encode())
        sandbox = session._record.sandbox
        assert isinstance(sandbox, ScriptedSandbox)
        sandbox.on_close = unwilling
        session._provider.runtime.close_all(5)
        sandbox.on_close = lambda: None
        session.close()
        provider.wall.on_open = unwilling  # type: ignore[attr-defined]
        with pytest.raises(SandboxStartError):
            provider.open_record("a")
    assert "could not be ended" in caplog.text and SECRET not in caplog.text
