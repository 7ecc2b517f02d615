"""Checks of C9: what a dead process leaves, and where it is looked for."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator

import stockade
from stockade.capabilities import Feature
from stockade.sessions._collecting import collect
from stockade.sessions._runtime import Runtime
from stockade.testing.base import expect
from stockade.testing.machine.remains import Remains
from stockade.testing.processes import LEAVER, START, OtherProcesses
from stockade.testing.programs import say, sleep

#: Opens a session, starts a program in it, says so, and waits for its own death.
_OWNER = (
    START
    + """
session = stockade.open(given["string"], agent_id="owner", runtime=runtime)
execution = session.stream(**given["form"], timeout=300)
execution.take()
print(session.session_id, flush=True)
time.sleep(300)
"""
)

#: Collects, where its environment leads; says what became of sessions.
_COLLECTOR = (
    START
    + """
from stockade.sessions._collecting import collect
done = collect(runtime=runtime)
gone = [entry[0] for entry in (*done.removed, *done.forgotten)]
print(json.dumps({"gone": gone, "failed": done.failed, "skipped": done.skipped}))
"""
)

#: Attaches to a session, runs a program in it, and ends it.
_USER = (
    START
    + """
session = stockade.attach(given["session"], agent_id="owner", runtime=runtime)
print(session.start(**given["form"]).result().stdout, end="")
session.close()
"""
)


class Leftovers(OtherProcesses):
    """What becomes of sessions whose process is killed."""

    def test_C9_what_a_killed_process_left_is_collected(self) -> None:
        mark = f"47.{secrets.randbelow(10**9):09d}"
        network = {"network_enabled": "true"} if self.claims(Feature.NETWORK) else {}
        with self.shared() as session:
            form = self._form(session, sleep(float(mark), after="begun"))
            if "shell" in form:
                form["shell"] = f"echo begun; sleep {mark}"
        with self._ledger(**network) as (runtime, string, path), _folder() as own:
            with stockade.open(string, agent_id="alive", runtime=runtime) as mine:
                remains = Remains(tempfile.gettempdir(), own=own)
                given = {"string": string, "ledger": path, "form": form}
                with self._process(_OWNER, env={"TMPDIR": own}, **given) as owner:
                    assert owner.stdout is not None
                    session_id = owner.stdout.readline().strip()
                    expect(session_id, "C9", "a process with a session", owner.poll())
                    remains.note(owner.pid, session_id, mark)
                    owner.kill()
                    owner.wait()
                try:
                    self.until(lambda: not self._left(runtime, string, session_id, remains), 20)
                    left = self._left(runtime, string, session_id, remains)
                finally:
                    _end_programs(mark)
                expect(
                    not left,
                    "C9",
                    "nothing left once it was collected",
                    left,
                    "Wall.leftovers and Wall.remove",
                )
                expect(
                    self.run(mine, say("x")).success,
                    "C9",
                    "a living owner's session, as it was",
                    mine.status,
                )

    def _left(self, runtime: Runtime, string: str, session_id: str, remains: Remains) -> list[str]:
        """Collect once, and say what is still there of the session."""
        done = collect(runtime=runtime, strings=[string])
        failed = [f"{name}: {why}" for name, why in done.failed if name == session_id]
        return [*self._known(runtime, string, session_id), *remains.left(), *failed]

    def _known(self, runtime: Runtime, string: str, session_id: str) -> list[str]:
        """What the wall, where it leads now, and the ledger have of a session."""
        wall = stockade.provider(string, runtime=runtime).wall
        known = [found.words for found in wall.leftovers() if found.session_id == session_id]
        if runtime.ledger is not None:
            records = runtime.ledger.sessions()
            known += [f"record {r.string}" for r in records if r.session_id == session_id]
        return known

    def test_C9_a_sandbox_is_looked_for_where_it_was_made(self) -> None:
        """By processes whose environment leads elsewhere."""
        durable = self.claims(Feature.DURABLE)
        with self.shared() as session:
            form = self._form(session, say("there\n"))
        with self._ledger(**({"durable": "true"} if durable else {})) as (runtime, string, path):
            with _folder() as away:
                env = {"TMPDIR": away, "XDG_RUNTIME_DIR": away, **self.elsewhere}
                session_id = self._left_alone(string, path, form)
                seen = self._asked(_COLLECTOR, env, ledger=path)
                if durable:
                    gone = json.loads(seen)["gone"]
                    expect(
                        session_id not in gone,
                        "C9",
                        "a living durable session, kept",
                        seen,
                        "Wall.place and Wall.look_at",
                    )
                    said = self._asked(_USER, env, ledger=path, session=session_id, form=form)
                    expect(said == "there\n", "C9", "the session, attached to", said)

                def left() -> list[str]:
                    if known := self._known(runtime, string, session_id):
                        self._asked(_COLLECTOR, env, ledger=path)
                    return known

                self.until(lambda: not left(), 20)
                expect(
                    not left(), "C9", "nothing left of it", left(), "Wall.place and Wall.look_at"
                )

    def _left_alone(self, string: str, path: str, form: dict[str, object]) -> str:
        """A session whose process is dead: a durable one was let go of."""
        if self.claims(Feature.DURABLE):
            return self._asked(LEAVER, {}, string=string, ledger=path).strip()
        with self._process(_OWNER, string=string, ledger=path, form=form) as owner:
            assert owner.stdout is not None
            session_id = owner.stdout.readline().strip()
            expect(session_id, "C9", "a process with a session", owner.poll())
            owner.kill()
            owner.wait()
        return session_id

    def _asked(self, code: str, env: dict[str, str], **given: object) -> str:
        """What another process says."""
        with self._process(code, env=env, **given) as process:
            out, err = process.communicate(timeout=self.scaled(50))
            expect(process.returncode == 0, self._clause, "a process that ends well", err[-800:])
        return out


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A temporary folder that need not be empty, or removable, in the end."""
    with tempfile.TemporaryDirectory(prefix="stockade-", ignore_cleanup_errors=True) as folder:
        yield folder


def _end_programs(mark: str) -> None:
    """What a wall left running on this machine of a check's own program, whose mark is random."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if f"sleep\0{mark}\0".encode() in file.read():
                os.kill(int(path.split("/")[2]), signal.SIGKILL)
