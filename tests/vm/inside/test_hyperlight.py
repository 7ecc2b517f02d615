"""The Hyperlight wall beyond the contract; run in the guest, which has a KVM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import stockade
from conftest import need
from stockade.errors import ConfigError, UnsupportedError
from stockade.results import Verdict
from stockade.session import Session

FACTOR = float(os.environ.get("STOCKADE_TIME_FACTOR", "1"))


def _tool_error() -> None:
    from stockade_hyperlight import ToolError

    raise ToolError("ask politely")


def _secret() -> None:
    raise ValueError("/host/secret")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    need("hyperlight")
    from stockade_hyperlight import allow_tool

    allow_tool("add", lambda a, b: a + b)
    allow_tool("polite", _tool_error)
    allow_tool("secret", _secret)
    allow_tool("unnamed", lambda: "reached")
    string = "hyperlight?memory_mb=96&tools=add,polite,secret&network_allow=example.org"
    with stockade.open(string) as opened:
        yield opened


def test_a_named_host_function_is_called(session: Session) -> None:
    assert session.code("print(call_tool('add', a=1, b=2))").stdout == "3\n"


def test_of_its_errors_the_type_shows_alone(session: Session) -> None:
    printed = session.code("call_tool('secret')").stderr
    assert "ValueError" in printed
    assert "/host/secret" not in printed
    assert "ask politely" in session.code("call_tool('polite')").stderr


def test_one_that_the_session_does_not_name_is_not_there(session: Session) -> None:
    result = session.code("print(call_tool('unnamed'))")
    assert "reached" not in result.stdout
    assert result.exit_code == 1


def test_a_host_that_is_not_named_is_refused(session: Session) -> None:
    for url in ("http://127.0.0.1/", "http://localhost/", "https://example.com/"):
        printed = session.code(f"http_get({url!r})").stderr
        assert "Denied" in printed, (url, printed)


def test_each_execution_has_a_clean_guest(session: Session) -> None:
    session.code("import builtins; builtins.print = None; builtins.left = 1")
    assert session.code("print('left' in dir(__builtins__))").stdout == "False\n"


def test_files_live_through_a_clean_guest_and_a_killed_one(session: Session) -> None:
    session.files.write("/input/given", b"\0\1\2")
    code = "open('made/here', 'wb').write(open('/input/given', 'rb').read() * 20000)"
    assert session.code(code).success
    late = session.code("open('late', 'w').write('x')\nwhile True: pass", timeout=2.0 * FACTOR)
    assert late.verdict is Verdict.TIMED_OUT
    assert session.files.read("made/here") == b"\0\1\2" * 20000
    assert session.code("print(len(open('made/here', 'rb').read()))").stdout == "60000\n"
    assert "PermissionError" in session.code("open('/input/given', 'w')").stderr


def test_what_would_break_the_guest_is_mended(session: Session) -> None:
    code = "import time; a = time.monotonic(); time.sleep(0.2); print(time.monotonic() - a >= 0.2)"
    assert session.code(code).stdout == "True\n"
    result = session.code("import os; print('kept'); os.abort()")
    assert (result.verdict, result.stdout) == (Verdict.SIGNALLED, "kept\n")
    assert session.code("print('usable')").stdout == "usable\n"


def test_E5_the_memory_limit_is_the_guests_and_the_session_goes_on(session: Session) -> None:
    held = session.code("x = bytearray(20 << 20); print(len(x))")
    assert held.stdout == f"{20 << 20}\n"
    hog = session.code("x = []\nwhile True: x.append('y' * 1000000)", timeout=30.0 * FACTOR)
    assert hog.verdict is Verdict.OUT_OF_MEMORY
    assert session.code("print('usable')").stdout == "usable\n"


def test_G1_a_snapshot_holds_the_files() -> None:
    need("hyperlight")
    with stockade.open("hyperlight?memory_mb=96") as session:
        session.code("open('a/b', 'w').write('one')")
        session.files.write("/input/c", b"two")
        saved = session.snapshot()
        session.files.write("a/b", b"changed")
    with stockade.open("hyperlight?memory_mb=96", snapshot=saved) as other:
        code = "print(open('a/b').read(), open('/input/c').read())"
        assert other.code(code).stdout == "one two\n"


def test_javascript() -> None:
    need("hyperlight")
    with stockade.open("hyperlight:javascript?memory_mb=128") as session:

        def run(code: str, **options: object) -> stockade.SandboxResult:
            return session.code(code, language="javascript", **options)  # type: ignore[arg-type]

        assert run("console.log('hi', {a: 1})").stdout == 'hi {"a":1}\n'
        assert run("process.exit(4)").exit_code == 4
        failed = run("throw new Error('no')")
        assert failed.exit_code == 1
        assert "Error: no" in failed.stderr
        assert run("write_file('a/b', 'x'); console.log(read_file('a/b'))").stdout == "x\n"
        assert session.files.read("a/b") == b"x"
        assert run("while (true);", timeout=1.0 * FACTOR).verdict is Verdict.TIMED_OUT


def test_what_it_cannot_hold_is_refused() -> None:
    need("hyperlight")
    with pytest.raises(UnsupportedError, match="cpu below 1"):
        stockade.open("hyperlight?cpu_limit=0.5")
    with pytest.raises(ConfigError, match="at least 64"):
        stockade.open("hyperlight?memory_mb=32")
    with pytest.raises(ConfigError, match="never_registered is not registered"):
        stockade.open("hyperlight?tools=never_registered")


_OWNER = """
import sys, stockade
session = stockade.open("hyperlight?memory_mb=96")
execution = session.stream(code="print('looping')\\nwhile True: pass", timeout=600)
execution.take()
(machine,) = session._record.sandbox.machines
print(machine.pid, flush=True)
sys.stdin.read()
"""


def test_a_looping_guest_ends_with_its_owner() -> None:
    need("hyperlight")
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    try:
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        deadline = time.monotonic() + 5.0 * FACTOR
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            time.sleep(0.1)
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    break  # it has ended; whoever inherits it has not looked yet
        else:
            assert not os.path.exists(f"/proc/{pid}")
    except FileNotFoundError:
        pass  # gone between the two looks
    finally:
        owner.kill()
        owner.stdin.close()
        owner.stdout.close()
        owner.wait()
