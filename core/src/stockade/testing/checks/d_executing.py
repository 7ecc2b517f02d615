"""Checks of D, first part: forms, codes, verdicts, folders, many at once (D1 to D3, D9 to D11,
D15)."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest

from stockade.capabilities import Feature
from stockade.errors import ConfigError, LanguageError
from stockade.executions._execution import Execution as RunningExecution
from stockade.results import ExecutionStatus, Verdict
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import Program, hog, leave, say, sleep, unique

_FORMS: tuple[tuple[Feature, dict[str, Any]], ...] = (
    (Feature.ARGV, {"argv": ["true"]}),
    (Feature.SHELL, {"shell": "true"}),
    (Feature.CODE, {"code": "1", "language": "python"}),
)


class Execution(ConformanceBase):
    """Forms, codes, verdicts."""

    def test_D1_an_argument_vector_meets_no_shell(self) -> None:
        self.need(Feature.ARGV)
        with self.shared() as session:
            argument = "$(echo no) `no` 'q' \"q\" * ;\n\t\\ -n"
            result = session.run(["printf", "%s", argument])
            expect(result.stdout == argument, "D1", repr(argument), result.stdout)
            result = session.run(["printf", "<%s>", "", "a b"])
            expect(result.stdout == "<><a b>", "D1", "each argument separate", result.stdout)

    def test_D1_a_shell_line_meets_one(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            result = session.shell("a=6; echo $((a*7)) | cat")
            expect(result.stdout == "42\n", "D1", "42", result)

    def test_D1_the_traits_call_is_the_shell_form(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            handle = session.provider.execute_code(
                session.agent_id, session.session_id, "a=6; echo $((a*7)); exit 3"
            )
            assert handle.result is not None
            seen = (handle.result.stdout, handle.result.exit_code, handle.status)
            right = ("42\n", 3, ExecutionStatus.FAILED)
            expect(seen == right, "D1", repr(right), seen)

    def test_D1_code_in_a_named_language(self) -> None:
        self.need(Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
            result = session.code("import sys\nprint(6 * 7, len(sys.argv))\nsys.exit(3)")
            seen = (result.stdout, result.exit_code)
            expect(seen == ("42 1\n", 3), "D1", "42, no arguments, code 3", seen)

    def test_D1_an_unknown_language_lists_those_there_are(self) -> None:
        self.need(Feature.CODE)
        with self.shared() as session, pytest.raises(LanguageError, match="it has: "):
            session.code("x", language="cobol-85")

    def test_D1_a_form_that_is_not_claimed_is_refused(self) -> None:
        missing = [(form, ask) for form, ask in _FORMS if not self.claims(form)]
        if not missing:
            return
        with self.shared() as session:
            for feature, request in missing:
                self.refused("D1", functools.partial(session.start, **request), feature)

    def test_D2_exit_codes_are_exact(self) -> None:
        with self.shared() as session:
            for code in (0, 1, 2, 42, 100, 124, 125, 126, 127, 128, 137, 143, 250, 251, 255):
                result = self.run(session, leave(code))
                got = (result.exit_code, result.verdict)
                expect(got == (code, Verdict.EXITED), "D2", f"exited {code}", got)

    def test_D2_missing_is_127_and_not_executable_126(self) -> None:
        self.need(Feature.ARGV)
        with self.shared() as session:
            for missing in ("no-such-program-x", "/no/such/program"):
                result = session.run([missing])
                expect(result.exit_code == 127, "D2", f"127 for {missing}", result)
            notes = unique("notes")
            session.run(["sh", "-c", f"echo x > {notes}; chmod 644 {notes}"])
            result = session.run([f"./{notes}"])
            expect(result.exit_code == 126, "D2", "126 for a file that is no program", result)

    def test_D2_signals_are_named(self) -> None:
        self.need(Feature.ARGV)
        with self.shared() as session:
            for name, number in (("KILL", 9), ("TERM", 15), ("SEGV", 11)):
                result = session.run(["sh", "-c", f"kill -{name} $$"])
                got = (result.verdict, result.exit_code, result.signal_name)
                right = (Verdict.SIGNALLED, 128 + number, f"SIG{name}")
                expect(got == right, "D2", repr(right), got)

    def test_D3_verdicts_at_the_same_time(self) -> None:
        with self.shared() as session:
            limit = self.scaled(1.0)
            started = {
                ("timed out", True, "timed out"): self.start(session, sleep(30), timeout=limit),
                ("exited", False, None): self.start(session, leave(137)),
                ("cancelled", True, "cancelled"): self.start(session, sleep(30)),
            }
            started["cancelled", True, "cancelled"].cancel()
            for right, execution in started.items():
                result = execution.result(self.scaled(20))
                seen = (str(result.verdict), result.killed, result.kill_reason)
                expect(seen == right, "D3", repr(right), result)
                expect(not result.success, "D3", "no success", result)

    def test_D3_out_of_memory_is_distinguished_from_codes_and_signals(self) -> None:
        self.need(Feature.MEMORY, Feature.SHELL)
        with self.session(memory_mb=128) as session:
            timed = self.start(session, sleep(30), timeout=self.scaled(2.0))
            self._end_as(
                {
                    "exited 137": session.start(shell="sleep 0.3; exit 137"),
                    "exited 143": session.start(shell="sleep 0.3; exit 143"),
                    "signalled 137": session.start(shell="sleep 0.3; kill -9 $$"),
                }
            )
            started = {"timed out": timed}
            if not self.one_kernel(session):
                # Where one kernel holds all, its end for memory is everybody's: E5 alone checks it.
                started["out of memory"] = self.start(session, hog(), timeout=self.scaled(30))
            self._end_as(started)

    def _end_as(self, started: dict[str, RunningExecution]) -> None:
        for right, execution in started.items():
            result = execution.result(self.scaled(50))
            word = str(result.verdict)
            alone = word in ("timed out", "out of memory")
            seen = word if alone else f"{word} {result.exit_code}"
            expect(seen == right, "D3", right, result)

    def test_D9_working_folder_and_environment(self) -> None:
        self.need(Feature.SHELL)
        with self.session(env_vars={"A": "1"}) as session:
            name = unique("sub")
            folder = f"{session.provider.config.working_dir}/{name}"
            session.shell(f"mkdir {name}; echo here > {name}/f")
            value = "v 'q' \"q\" $x\n=\\"
            line = 'printf "%s|%s|" "$A" "$B"; cat f'
            result = session.shell(line, env={"B": value}, working_dir=folder)
            expect(result.stdout == f"1|{value}|here\n", "D9", "as given", result.stdout)
            seen = session.shell('printf %s "$A$B"', env={"A": "2"}).stdout
            expect(seen == "2", "D9", "an execution's own, and for it alone", seen)

    def test_D9_a_user_of_one_execution(self) -> None:
        self.need(Feature.EXECUTION_USER, Feature.SHELL)
        with self.shared() as session:
            own = session.shell("id -u").stdout
            seen = session.shell("id -u; id -g", user="23456:23457").stdout.split()
            expect(seen == ["23456", "23457"], "D9", "that user and group", seen)
            after = session.shell("id -u").stdout
            expect(after == own, "D9", f"for it alone: {own!r} again", after)

    def test_D9_another_user_is_refused_where_there_can_be_none(self) -> None:
        if self.claims(Feature.EXECUTION_USER):
            pytest.skip("the wall takes a user for one execution")
        with self.shared() as session:
            call = lambda: self.run(session, say("x"), user="23456")  # noqa: E731
            self.refused("D9", call, Feature.EXECUTION_USER)

    def test_D9_a_folder_that_is_missing_is_named(self) -> None:
        with self.shared() as session:
            with pytest.raises(FileNotFoundError, match="/no/such/folder"):
                self.run(session, say("x"), working_dir="/no/such/folder")
            self.usable(session, "D9")

    def test_D10_a_script_of_a_mebibyte(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            line = ": " + "x" * (1 << 20) + "\necho end"
            seen = session.shell(line).stdout
            expect(seen == "end\n", "D10", "end", seen)

    def test_D10_code_of_a_mebibyte(self) -> None:
        self.need(Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
            seen = session.code(f"x = '{'x' * (1 << 20)}'\nprint(len(x))").stdout
            expect(seen == "1048576\n", "D10", "1048576", seen)

    def test_D11_executions_at_the_same_time(self) -> None:
        with self.shared() as session:
            started = {
                number: self.start(session, _thrice(number), timeout=self.scaled(40))
                for number in range(10)
            }
            for number, execution in started.items():
                result = execution.result(self.scaled(50))
                right = (f"{number}\n" * 3, f"e{number}\n" * 3)
                expect((result.stdout, result.stderr) == right, "D11", repr(right), result)

    def test_D11_none_waits_for_another(self) -> None:
        with self.shared() as session:
            slow = self.runs(session)
            began = time.monotonic()
            result = self.run(session, say("x"), timeout=self.scaled(20))
            self.within("D11", 10, began, "another execution")
            both = result.success and not slow.future.done()
            expect(both, "D11", "both at the same time", result)
            slow.cancel()
            slow.result(self.scaled(20))

    def test_D15_no_deadline_is_none_and_left_out_is_the_sessions(self) -> None:
        with self.session(timeout_seconds=1.0) as session:
            limit = session._record.config.timeout_seconds
            free = self.start(session, sleep(limit + self.scaled(1.5)), timeout=None)
            usual = self.start(session, sleep(30)).result(self.scaled(20))
            seen = (usual.verdict, usual.duration_seconds < limit + self.scaled(2))
            expect(seen == (Verdict.TIMED_OUT, True), "D15", f"timed out after {limit:g} s", usual)
            result = free.result(self.scaled(20))
            expect(result.success, "D15", "without a deadline it exits", result)

    def test_D15_without_a_deadline_the_lifetime_stands(self) -> None:
        seconds = self.scaled(3.0)
        with self.session(lifetime_seconds=seconds) as session:
            free = self.start(session, sleep(60), timeout=None)
            result = free.result(seconds + self.scaled(15))
            expect(result.verdict is Verdict.CANCELLED, "D15", "ended with its session", result)

    def test_D15_a_relative_folder_starts_at_the_sessions(self) -> None:
        self.need(Feature.SHELL)
        with self.shared() as session:
            name = unique("sub")
            session.shell(f"mkdir -p {name}/below; echo here > {name}/below/f")
            for folder in (f"{name}/below", f"./{name}/below/"):
                seen = session.shell("cat f", working_dir=folder).stdout
                expect(seen == "here\n", "D15", f"programs that start in {folder}", seen)
            seen = session.shell(f"cat {name}/below/f", working_dir=".").stdout
            expect(seen == "here\n", "D15", "'.' is the session's own", seen)
            with pytest.raises(FileNotFoundError, match="no-such-folder"):
                session.shell("true", working_dir=f"{name}/no-such-folder")
            with pytest.raises(ConfigError, match="absolute path"):
                session.shell("true", working_dir=f"{name}/../..")


def _thrice(number: int) -> Program:
    sh = f"for i in 1 2 3; do echo {number}; echo e{number} >&2; sleep 0.1; done"
    python = (
        f"import sys, time\nfor i in range(3):\n    print({number})\n"
        f"    print('e{number}', file=sys.stderr)\n    time.sleep(0.1)"
    )
    return Program(name="thrice", sh=sh, python=python)
