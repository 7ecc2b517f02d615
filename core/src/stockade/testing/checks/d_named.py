"""Checks of named interpreters (D1, D6, D20): they keep their state, and are else as fresh ones."""

from __future__ import annotations

import time

from stockade.capabilities import Feature
from stockade.results import Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect

#: What of its start a program can see.
_LOOK = "import sys\nprint(sys.argv, repr(sys.path[0]), __name__, sys.path.count('/stockade/lib'))"


class NamedInterpreters(ConformanceBase):
    """Arguments, paths and exit, and what outlives what."""

    def _stateful(self) -> None:
        self.need(Feature.STATEFUL)
        with self.shared() as session:
            self.need_python(session)

    def test_D20_a_named_interpreter_starts_as_a_fresh_one(self) -> None:
        self._stateful()
        with self.session() as session:
            for code, env in ((_LOOK, {}), (_LOOK, {"PYTHONPATH": "/stockade/lib"})):
                fresh = session.code(code, env=env)
                for _ in range(2):
                    named = session.code(code, env=env, state="a")
                    same = (named.stdout, named.stderr) == (fresh.stdout, fresh.stderr)
                    expect(same, "D20", f"as a fresh one: {fresh.stdout}", named)
            for code in ("\ufeffprint(1)", "print(1"):
                fresh, named = session.code(code), session.code(code, state="a")
                same = (named.stdout, named.exit_code) == (fresh.stdout, fresh.exit_code)
                expect(same, "D20", f"what a fresh one makes of {code!r}: {fresh}", named)

    def test_D20_an_exit_ends_a_named_interpreter(self) -> None:
        self._stateful()
        with self.session() as session:
            session.code("x = 1", state="other")
            for end, code in (("import sys; sys.exit(7)", 7), ("exit('why')", 1), ("exit()", 0)):
                session.code("x = 1", state="a")
                ended = session.code(end, state="a")
                right = (Verdict.EXITED, code, "why" in end)
                seen = (ended.verdict, ended.exit_code, "why" in ended.stderr)
                expect(seen == right, "D20", f"exit code {code}", ended)
                self._is_new(session, "a")
            kept = session.code("print(x)", state="other")
            expect(kept.stdout == "1\n", "D20", "another one, which lives on", kept)

    def _is_new(self, session: Session, state: str) -> None:
        seen = session.code("print('x' in globals())", state=state)
        expect(seen.stdout == "False\n", "D20", "a new interpreter after an exit", seen)

    def test_D20_errors_and_interrupts_leave_the_state(self) -> None:
        self._stateful()
        with self.session() as session:
            for number, raised in enumerate(("ValueError('seen')", "KeyboardInterrupt")):
                failed = session.code(f"x = {number}\ndef f(): raise {raised}\nf()", state="a")
                shown = failed.stderr.strip().splitlines() or [""]
                right = not failed.success and shown[-1].startswith(raised.partition("(")[0])
                expect(right, "D20", f"{raised} on standard error", failed)
                expect("Traceback" in shown[0], "D20", "a traceback", failed)
                seen = session.code("print(x)", state="a")
                expect(seen.stdout == f"{number}\n", "D20", "the state, kept", seen)

    def test_D1_a_named_interpreter_keeps_its_variables(self) -> None:
        self.need(Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
            if not session.provider.wall.capabilities[Feature.STATEFUL]:
                self.refused("D1", lambda: session.code("1", state="a"), Feature.STATEFUL)
                return
        with self.session() as session:
            session.code("x = 41", state="a")
            seen = session.code("x += 1; print(x)", state="a")
            expect(seen.stdout == "42\n", "D1", "42", seen)
            for other in (session.code("print(x)", state="b"), session.code("print(x)")):
                expect("NameError" in other.stderr, "D1", "x is known to one alone", other)
            failed = session.code("y = 1\nraise ValueError('no')", state="a")
            expect(failed.exit_code == 1, "D1", "1 for an exception", failed)
            seen = session.code("print(x, y)", state="a")
            expect(seen.stdout == "42 1\n", "D1", "variables outlive an exception", seen)

    def test_D6_a_named_interpreter_past_its_deadline(self) -> None:
        self.need(Feature.STATEFUL)
        with self.shared() as session:
            self.need_python(session)
        with self.session() as session:
            session.code("x = 1", state="a")
            began = time.monotonic()
            result = session.code(
                "import time\nwhile True: time.sleep(1)", state="a", timeout=self.scaled(1.0)
            )
            self.within("D6", 2.0, began, "the end")
            expect(result.verdict is Verdict.TIMED_OUT, "D6", "timed out", result)
            seen = session.code("print('x' in globals())", state="a")
            expect(seen.stdout == "False\n", "D6", "an interpreter that starts anew", seen)
