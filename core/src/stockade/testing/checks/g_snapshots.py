"""Checks of G: snapshots, pausing."""

from __future__ import annotations

import time

import pytest

from stockade.capabilities import Feature
from stockade.errors import FileTooLargeError, SessionStateError, StockadeError
from stockade.files._snapshots import Snapshot
from stockade.results import Verdict
from stockade.session import Session
from stockade.session._opening import restored
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import say, sleep, unique


class SnapshotsAndPausing(ConformanceBase):
    """What a session was, kept; and what it is, held still."""

    def _from(self, snapshot: Snapshot) -> Session:
        return restored(self.open_session(), snapshot)

    def test_G1_sessions_start_from_a_snapshot_and_leave_it_as_it_is(self) -> None:
        with self.session() as session:
            if not session.provider.wall.capabilities[Feature.SNAPSHOT]:
                self.refused("G1", session.snapshot, Feature.SNAPSHOT)
                return
            self.need(Feature.SHELL)
            session.shell("mkdir -p d; echo one > 'd/a file'; printf '\\0\\377' > d/b; chmod 700 d")
            session.shell("echo two > /tmp/c")
            snapshot = session.snapshot()
            session.shell("echo changed > 'd/a file'")
        look = "cat 'd/a file' /tmp/c; wc -c < d/b; find d -prune -perm 700"
        right = "one\ntwo\n2\nd\n"
        with self._from(snapshot) as first:
            seen = first.shell(look).stdout
            expect(seen.split() == right.split(), "G1", repr(right), seen)
            first.shell("rm -r d; echo three > /tmp/c")
        with self._from(snapshot) as second:
            seen = second.shell(look).stdout
            expect(seen.split() == right.split(), "G1", f"{right!r} again", seen)

    def test_G1_a_snapshot_of_holes_is_refused_at_once(self) -> None:
        self.need(Feature.SNAPSHOT, Feature.SHELL, Feature.FILES)
        with self.session() as session:
            session.shell(f"dd if=/dev/null of=big bs=1 seek={1 << 40}")
            if session.files.stat("big").size != 1 << 40:
                pytest.skip("no file of a TiB, all hole, can be made in this sandbox")
            began = time.monotonic()
            try:
                seen: object = session.snapshot(timeout=self.scaled(20))
            except (StockadeError, TimeoutError) as error:
                seen = error
            self.within("G1", 5.0, began, "a refusal")
            refused = isinstance(seen, FileTooLargeError)
            expect(refused, "G1", "FileTooLargeError, at once", seen)

    def test_G2_a_paused_session_stands_still_and_goes_on(self) -> None:
        path = unique("beat")
        with self.shared() as session:
            if not session.provider.wall.capabilities[Feature.PAUSE]:
                self.refused("G2", session.pause, Feature.PAUSE)
                return
            self.need(Feature.SHELL)
            beat = f"i=0; while [ ! -e {path}.stop ] && [ $i -lt 600 ]; do i=$((i+1))"
            beat += f"; echo $i >> {path}; sleep 0.1; done"
            began = time.monotonic()
            execution = session.start(shell=f"{beat}; tail -n 1 {path}", timeout=self.scaled(80))
            self.wait(0.5)
            session.pause()
            paused = time.monotonic()
            try:
                self._refuses_to_execute(session)
                time.sleep(2.0)
            finally:
                still = time.monotonic() - paused
                session.resume()
            seen = int(session.shell(f"wc -l < {path}; : > {path}.stop").stdout)
            # At most ten a second of the time that it was not paused.
            most = (time.monotonic() - began - still) * 10 + 2
            expect(seen <= most, "G2", f"at most {most:.0f} beats, none while paused", seen)
            result = execution.result(self.scaled(50))
            went_on = result.stdout.strip().isdigit() and int(result.stdout) >= seen
            expect(went_on, "G2", f"it went on from {seen} where it was", result)

    def _refuses_to_execute(self, session: Session) -> None:
        try:
            self.run(session, say("x"))
        except SessionStateError:
            return
        expect(False, "G2", "SessionStateError while it is paused", "an execution")

    def test_G2_a_deadline_in_a_paused_session(self) -> None:
        self.need(Feature.PAUSE)
        with self.shared() as session:
            self.run(session, say("x"))
            execution = self.start(session, sleep(30), timeout=self.scaled(1.0))
            self.wait(0.3)
            session.pause()
            began = time.monotonic()
            result = execution.result(self.scaled(20))
            self.within("G2", 3.0, began, "the end")
            expect(result.verdict is Verdict.TIMED_OUT, "G2", "timed out", result)
            session.resume()
            self.usable(session, "G2")
