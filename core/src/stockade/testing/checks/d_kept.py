"""Checks of D20 for interpreters that are no Python, where a sandbox has them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from stockade.capabilities import Feature
from stockade.executions._languages import languages_of
from stockade.results import Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect

_LATE = "sleep 0.4; echo late"


@attrs.frozen
class _Words:
    """One language's programs."""

    keep: str
    use: str  #: prints 42, by what was kept
    fail: str
    leave: str  #: exits with 7
    look: str  #: prints what was kept in brackets
    echo: str  #: prints a variable A and all of its input
    late: str  #: leaves a program that prints later
    wait: str  #: waits for longer than that, then prints
    hang: str  #: prints ``begun`` and does not end


_LANGUAGES = {
    "bash": _Words(
        keep="x=41; f() { echo $((x + 1)); }",
        use="f",
        fail="false",
        leave="exit 7",
        look='echo "[${x-}]"',
        echo='echo "$A"; cat',
        late=f"({_LATE}) &",
        wait="sleep 0.8; echo now",
        hang="echo begun; sleep 60",
    ),
    "javascript": _Words(
        keep="const x = 41; function f() { return x + 1 }",
        use="console.log(f())",
        fail="throw new Error('why')",
        leave="process.exit(7)",
        look="console.log(`[${typeof x === 'undefined' ? '' : x}]`)",
        echo="console.log(process.env.A); "
        "process.stdout.write(require('fs').readFileSync(0, 'utf8'))",
        late="require('child_process').spawn('sh', ['-c', "
        f"{_LATE!r}], {{stdio: 'inherit'}}); undefined",
        wait="require('child_process').execSync('sleep 0.8'); console.log('now')",
        hang="console.log('begun'); require('child_process').execSync('sleep 60')",
    ),
}


class KeptLanguages(ConformanceBase):
    """State, exit codes, input, and that what is left behind speaks for no later code."""

    def _sessions(self) -> Iterator[tuple[Session, str, _Words]]:
        self.need(Feature.STATEFUL)
        with self.session() as session:
            there = languages_of(session.provider.runtime.workers, session._record)
            kept = [
                name
                for name in session.sandbox.stateful_languages
                if name in there and name in _LANGUAGES
            ]
            if not kept:
                pytest.skip("this sandbox has no such interpreter")
            for language in kept:
                yield session, language, _LANGUAGES[language]

    def test_D20_interpreters_of_other_languages_keep_their_state(self) -> None:
        for session, language, words in self._sessions():
            session.code(words.keep, language, state="a")
            used = session.code(words.use, language, state="a")
            expect(used.stdout == "42\n", "D20", f"what {language} has kept", used)
            failed = session.code(words.fail, language, state="a")
            expect(failed.exit_code == 1, "D20", "the exit code of what fails", failed)
            seen = session.code(words.look, language, state="a")
            expect(seen.stdout == "[41]\n", "D20", "the state after that", seen)
            other = session.code(words.look, language, state="b")
            expect(other.stdout == "[]\n", "D20", "another one, which has its own", other)
            ended = session.code(words.leave, language, state="a")
            expect(ended.exit_code == 7, "D20", "its end, with its code", ended)
            self._is_anew(session, language, words)
            self._is_timed_out(session, language, words)
            self._is_anew(session, language, words)
            session.restart("a", language)
            self._is_anew(session, language, words)

    def _is_timed_out(self, session: Session, language: str, words: _Words) -> None:
        """In the middle of its code: one that has not begun leaves the state as it was."""
        for limit in (0.2, 2.0, 20.0):
            late = session.code(words.hang, language, state="a", timeout=self.scaled(limit))
            expect(late.verdict is Verdict.TIMED_OUT, "D6", "the end at the deadline", late)
            if late.stdout:
                break
        expect(late.stdout == "begun\n", "D6", "the output until the deadline", late)

    def _is_anew(self, session: Session, language: str, words: _Words) -> None:
        seen = session.code(words.look, language, state="a")
        expect(seen.stdout == "[]\n", "D20", "a new interpreter after its end", seen)
        kept = session.code(words.keep, language, state="a")
        expect(kept.success, "D20", "code that the new one runs", kept)

    def test_D20_their_code_has_input_and_variables_of_its_own(self) -> None:
        for session, language, words in self._sessions():
            for text in ("one", "two"):
                seen = session.code(
                    words.echo, language, state="a", env={"A": text}, stdin=text.encode()
                )
                expect(seen.stdout == f"{text}\n{text}", "D20", f"A and input: {text}", seen)

    def test_D20_what_their_code_left_behind_prints_into_no_later_one(self) -> None:
        for session, language, words in self._sessions():
            session.code(words.late, language, state="a")
            now = session.code(words.wait, language, state="a")
            expect(now.stdout == "now\n", "D20", "output of its own alone (D16)", now)
