"""A session belongs to the process that opened it (C12): each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_HEAD = """
import contextlib, os, sys, threading, time, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
sys.path.insert(0, sys.argv[1])
import stockade
import stockade.sessions._configuring
from stockade import ForkedSessionError
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime, default_runtime
from core.walls import ScriptedSandbox, ScriptedWall, make_provider, until_killed
from stockade.session import Session
from stockade.wall import Terminal


class Wall(ScriptedWall):
    closed = []

    def open(self, request):
        return Sandbox(on_close=lambda: self.closed.append(os.getpid()))


class Screen(Terminal):
    def read(self): return b"x"
    def write(self, data): ...
    def resize(self, rows, columns): ...
    def exit_code(self): return 0
    def close(self): ...


class Sandbox(ScriptedSandbox):
    def terminal(self, request):
        return Screen()


def expect(condition, what):
    if not condition:
        print("wrong:", what, flush=True)


def raises(call, kind=ForkedSessionError):
    began = time.monotonic()
    try:
        seen = call()
    except BaseException as error:
        expect(type(error) is kind, repr(error))
        return str(error)
    finally:
        expect(time.monotonic() - began < 1, "it took long")
    expect(False, f"no error but {seen!r}")


def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(code)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            expect(status == 0, f"the child ended with {status}")
            return
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    expect(False, "the child hangs")


def provider_of(runtime, body=None, **config):
    runtime.walls._walls["forked"] = Wall
    return stockade.provider("forked", runtime=runtime, **config)
"""


def _run(body: str, folder: Path) -> str:
    code = _HEAD + textwrap.dedent(body)
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, tests, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "STOCKADE_LEDGER": "off"},
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr + done.stdout
    return done.stdout


def test_C12_every_use_in_the_child_raises_at_once(tmp_path: Path) -> None:
    out = _run(
        """
        runtime = Runtime(discover_plugins=False)
        chosen = provider_of(runtime)
        session = Session(chosen, chosen.open_record("agent"))
        running = session.stream(["x"])
        handle = chosen.create_session("agent")
        files = session.files
        terminal = Session(chosen, chosen.open_record("agent")).terminal()

        def child():
            for call in (
                lambda: session.run(["x"]),
                lambda: session.shell("x"),
                lambda: session.code("x"),
                lambda: session.start(["x"]),
                lambda: session.stream(["x"]),
                lambda: session.terminal(),
                lambda: session.files.read("/x"),
                lambda: files.list("/"),
                lambda: session.snapshot(),
                session.pause, session.resume, session.detach, session.close,
                lambda: session.status,
                lambda: session.paused,
                lambda: session.sandbox,
                lambda: session.port(1),
                terminal.read, terminal.close, lambda: terminal.write(b"x"), terminal.exit_code,
                running.result, running.cancel, running.handle, running.take,
                running.follow, running.close_stdin, session.executions,
                lambda: session.execution("x"),
                lambda: running.signal(15), lambda: running.write(b"x"),
                lambda: terminal.resize(1, 1), terminal.fileno,
                lambda: running.future, lambda: running.status, lambda: list(running),
                lambda: handle.status,
                lambda: chosen.execute_code("agent", handle.session_id, "true"),
                lambda: chosen.session_status("agent", handle.session_id),
                lambda: chosen.destroy_session("agent", handle.session_id),
                lambda: runtime.destroy(session._held),
            ):
                words = raises(call)
                expect("forked" in words and "open" in words, words)
            raises(lambda: chosen.session_status("thief", handle.session_id),
                   stockade.SessionNotFoundError)
            expect(session.session_id in repr(session), "its repr")
            expect(session.agent_id == "agent", "its agent")

        in_child(child)
        expect(session.run(["x"]).success, "the parent's session, as it was")
        session.close()
        expect(Wall.closed == [os.getpid()], Wall.closed)
        """,
        tmp_path,
    )
    assert out == ""


def test_C12_the_childs_end_leaves_it_alone(tmp_path: Path) -> None:
    """Also where it leaves the blocks in order, and its interpreter ends in order."""
    out = _run(
        """
        runtime = default_runtime()
        chosen = provider_of(runtime)
        with stockade.open("forked") as session, session.stream(["x"]) as execution:
            with stockade.Pool("forked", size=1) as pool:
                pool.wait_ready(5)
                pid = os.fork()
                if pid == 0:
                    raises(pool.open)
                    runtime.close_all()
                    runtime.shutdown()
                    sys.exit(0)
                expect(os.waitpid(pid, 0)[1] == 0, "the child's end")
                expect(session.run(["x"]).success, "the parent's session, as it was")
                expect(execution.result(5).success, "its execution")
                pool.open().close()
        expect(os.getpid() in Wall.closed and len(set(Wall.closed)) == 1, Wall.closed)
        """,
        tmp_path,
    )
    assert out == ""


@pytest.mark.parametrize("held", ["idle", "busy"])
def test_C12_new_sessions_work_in_the_child(held: str, tmp_path: Path) -> None:
    """With the runtime that it inherited, whatever other threads did at that moment."""
    out = _run(
        f"""
        held = {held!r}
        ledger = SqliteLedger(os.path.join(sys.argv[2], "ledger.sqlite"))
        runtime = Runtime(discover_plugins=False, ledger=ledger)
        chosen = provider_of(runtime, lifetime_seconds=60)
        first = Session(chosen, chosen.open_record("agent"))
        first.run(["x"])

        def child():
            expect(runtime.pid == os.getpid(), "the runtime is the child's")
            expect(default_runtime().pid == os.getpid(), "the default one, too")
            stockade.configure(max_sessions=5)
            expect(not runtime.registry.records() and runtime.capacity.used == 0, "it is empty")
            with Session(chosen, chosen.open_record("agent")) as session:
                expect(session.run(["x"], timeout=5).success, "an execution")
                known = [record.session_id for record in ledger.sessions()]
                expect(known == [first.session_id, session.session_id], known)
            expect(Wall.closed == [os.getpid()], Wall.closed)
            ledger.flush()
            (mine,) = ledger.sessions()
            expect(mine.session_id == first.session_id, "the parent's record")
            runtime.close_all()

        locks = [
            runtime.registry._lock, runtime.hooks._lock, runtime.walls._lock,
            runtime.workers._lock, runtime.clock._changed, runtime.capacity._lock,
            runtime.openings._changed, runtime.selector.probing._lock, runtime.preparing._lock,
            ledger._later._wake, ledger._later._writing, ledger.file._lock,
            first._held.lock, first._held.pausing, stockade.sessions._runtime._default_lock,
            stockade.sessions._configuring._changing,
        ]
        go, held_all = threading.Event(), threading.Event()

        def hold():
            with contextlib.ExitStack() as stack:
                for lock in locks if held == "busy" else ():
                    stack.enter_context(lock)
                held_all.set()
                go.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        held_all.wait(5)
        in_child(child)
        go.set()
        holder.join()
        expect(first.run(["x"]).success, "the parent's session, as it was")
        first.close()
        expect(ledger.sessions() == [], "the ledger")
        """,
        tmp_path,
    )
    assert out == ""


def test_C12_the_child_may_attach_to_a_durable_one(tmp_path: Path) -> None:
    """As any other process may: that is no use of the parent's session."""
    out = _run(
        """
        from core.durable_walls import DurableWall

        runtime = Runtime(
            discover_plugins=False, ledger=SqliteLedger(os.path.join(sys.argv[2], "l.sqlite"))
        )
        runtime.walls._walls["durable"] = DurableWall
        chosen = stockade.provider("durable", runtime=runtime, durable=True)
        session = Session(chosen, chosen.open_record("agent"))

        def child():
            raises(lambda: session.run(["x"]))
            again = stockade.attach(session.session_id, agent_id="agent", runtime=runtime)
            expect(again.run(["x"]).success, "an execution")
            again.detach()

        in_child(child)
        expect(session.run(["x"]).success, "the parent's session, as it was")
        session.close()
        """,
        tmp_path,
    )
    assert out == ""


def test_C12_the_awaitable_face_says_so_too(tmp_path: Path) -> None:
    out = _run(
        """
        import asyncio
        import stockade.aio

        runtime = Runtime(discover_plugins=False)
        provider_of(runtime)
        kept = []

        async def opened():
            kept.append(await stockade.aio.open("forked", runtime=runtime))

        asyncio.run(opened())

        async def use():
            await kept[0].run(["x"])

        in_child(lambda: raises(lambda: asyncio.run(use())))
        runtime.close_all()
        """,
        tmp_path,
    )
    assert out == ""


def test_a_folder_that_goes_with_its_process_stays_when_a_child_ends(tmp_path: Path) -> None:
    out = _run(
        """
        from stockade.toolkit.processes.marks import own_folder

        path = own_folder(os.path.join(sys.argv[2], "mine"))

        def child():
            expect(own_folder(path) == path, "the parent's folder")
            own_folder(os.path.join(sys.argv[2], "childs"))

        in_child(child)
        deadline = time.monotonic() + 10
        while os.path.exists(os.path.join(sys.argv[2], "childs")) and time.monotonic() < deadline:
            time.sleep(0.05)
        expect(os.listdir(sys.argv[2]) == ["mine"], os.listdir(sys.argv[2]))
        """,
        tmp_path,
    )
    assert out == ""


def test_C12_a_child_that_is_forked_during_a_write_can_write(tmp_path: Path) -> None:
    """SQLite's memory of its locks comes along in a fork."""
    out = _run(
        """
        ledger = SqliteLedger(os.path.join(sys.argv[2], "ledger.sqlite"), timeout_seconds=2)
        writing = threading.Event()

        def write():
            with ledger.file.writing() as db:
                writing.set()
                time.sleep(0.2)

        def child():
            with ledger.file.writing() as db:
                db.execute("INSERT INTO notes VALUES ('child', 'wrote')")

        writer = threading.Thread(target=write)
        writer.start()
        writing.wait(5)
        in_child(child)
        writer.join()
        with ledger.file.reading() as db:
            expect(list(db.execute("SELECT * FROM notes WHERE name = 'child'")), "a note")
        """,
        tmp_path,
    )
    assert out == ""
