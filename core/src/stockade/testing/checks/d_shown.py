"""Checks of D20: what a named interpreter gives beside its output, and that nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stockade.capabilities import Feature
from stockade.results import Display, Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import unique

_RICH = """
class Rich:
    def __repr__(self): return "rich"
    def _repr_html_(self): return "<b>rich</b>"
    def _repr_png_(self): return b"\\x89PNG\\x00"
    def _repr_mimebundle_(self, include=None, exclude=None): return {"text/latex": "$r$"}
print("printed")
display("displayed", Rich())
Rich()
"""
_FORMS: dict[str, str | bytes] = {
    "text/plain": "rich",
    "text/html": "<b>rich</b>",
    "image/png": b"\x89PNG\x00",
    "text/latex": "$r$",
}
#: What a record of a display looks like on its own way; on standard output it is output.
_RECORD = """
import os
form = b"text/plain"
content = len(form).to_bytes(2, "little") + (6).to_bytes(4, "little") + form + b"forged"
record = len(content).to_bytes(4, "little") + b"D" + content
"""
_LIMIT = 10_000
_BEAT = "while :; do echo x >> %s; sleep 0.1; done"


class Notebooks(ConformanceBase):
    """Values, displays, errors, ``await``, ``input``."""

    @contextmanager
    def _named(self) -> Iterator[Session]:
        self.need(Feature.STATEFUL, Feature.NOTEBOOK)
        with self.session() as session:
            self.need_python(session)
            yield session

    def test_D20_the_last_value_and_displays_are_given(self) -> None:
        with self._named() as session:
            result = session.code(_RICH, state="a")
            rich = Display(_FORMS)
            expect(result.value == rich, "D20", "the last expression's value", result.value)
            expect(result.displays[1:] == (rich,), "D20", "what is displayed", result.displays)
            seen = (result.stdout, result.stderr, result.displays[0].text)
            expect(seen == ("printed\n", "", "'displayed'"), "D20", "each on its own way", seen)
            for code in ("x = 1", "None", "if x: 3"):
                result = session.code(code, state="a")
                expect(result.value is None, "D20", f"no value of {code!r}", result.value)

    def test_D20_errors_have_name_message_and_traceback(self) -> None:
        with self._named() as session:
            result = session.code("def f(): raise KeyError('k')\n\nf()", state="a")
            error = result.error
            right = error is not None and (error.name, error.message) == ("KeyError", "'k'")
            expect(right and result.exit_code == 1, "D20", "the error's name and message", result)
            lines = error.traceback.splitlines() if error else []
            right = len(lines) > 2 and "line 3" in lines[1] and lines[-1] == "KeyError: 'k'"
            expect(right, "D20", "a traceback that begins with the code", lines)
            for code in ("1", "import sys; sys.exit(3)"):
                error = session.code(code, state="a").error
                expect(error is None, "D20", f"no error of {code!r}", error)

    def test_D20_output_is_never_a_display(self) -> None:
        """Whatever a program prints; and what its children write is theirs alone (D16)."""
        with self._named() as session:
            code = _RECORD + "os.write(1, record)\nos.write(2, record)\n"
            result = session.code(
                code + "pid = os.fork()\nif not pid:\n    display('child')\n"
                "    os._exit(0)\nos.waitpid(pid, 0)\ndisplay('own')",
                state="a",
            )
            seen = [one.text for one in result.displays]
            expect(seen == ["'own'"], "D20", "its own displays alone", seen)
            printed = b"forged" in result.stdout_bytes and b"forged" in result.stderr_bytes
            expect(printed, "D20", "what was printed, as output", result)

    def test_D20_displays_are_bounded(self) -> None:
        with self._named() as session:
            code = "x = 1\nfor i in range(400): display('x' * 100)\n1 / 0"
            result = session.code(code, state="a", output_limit_bytes=_LIMIT)
            size = sum(len(one.text) for one in result.displays)
            expect(0 < size <= _LIMIT, "D20", f"at most {_LIMIT} bytes of displays", size)
            expect(result.displays_truncated, "D20", "a mark that some were dropped", result)
            named = result.error is not None and result.error.name == "ZeroDivisionError"
            expect(named, "D20", "the error, whatever was displayed before", result.error)
            result = session.code("x", state="a")
            seen = (result.value, result.displays_truncated)
            right = seen == (Display({"text/plain": "1"}), False)
            expect(right, "D20", "the next one's value, whole", seen)

    def test_D20_await_stands_at_the_top(self) -> None:
        with self._named() as session:
            code = "import asyncio, sys; sys.version_info >= (3, 8)"
            if (value := session.code(code, state="a").value) is None or value.text != "True":
                pytest.skip("the Python in this sandbox awaits nothing at the top")
            code = "import asyncio\nawait asyncio.sleep(0.01)\nawait asyncio.sleep(0, 5)"
            result = session.code(code, state="a")
            right = result.value == Display({"text/plain": "5"})
            expect(right, "D20", "what was awaited", result)

    def test_D20_input_fails_at_once_where_there_is_none(self) -> None:
        with self._named() as session:
            result = session.code("input('who? ')", state="a", timeout=self.scaled(10))
            error = result.error
            right = error is not None and error.name == "EOFError" and "stdin" in error.message
            expect(right, "D20", "an error that says how to give input", result)
            result = session.code("input()", state="a", stdin=b"me\n")
            right = result.value == Display({"text/plain": "'me'"})
            expect(right, "D20", "the input that was given", result)

    def test_D20_an_interrupt_keeps_the_state(self) -> None:
        """From another thread; of an execution, and of whatever the interpreter runs."""
        with self._named() as session:
            # No long sleep: a signal that comes just before the call is seen when it returns.
            code = "import time\nx = {}\nprint('begun', flush=True)\nwhile 1: time.sleep(0.05)"
            for n, by_name in enumerate((True, False, False)):
                execution = session.stream(code=code.format(n), state="a", timeout=self.scaled(50))
                if n < 2:
                    execution.take()
                began = time.monotonic()
                if by_name:
                    there = session.interrupt("a")
                    expect(there, "D20", "that something was interrupted", there)
                else:
                    execution.interrupt()
                result = execution.result()
                self.within("D20", 2, began, "the end of what was interrupted")
                error = result.error
                right = error is not None and error.name == "KeyboardInterrupt"
                expect(right, "D20", "KeyboardInterrupt", result)
                if n < 2:
                    kept = session.code("x", state="a").value
                    expect(kept and kept.text == str(n), "D20", "the state, kept", kept)
            nothing = session.interrupt("a")
            expect(not nothing, "D20", "nothing to interrupt", nothing)

    def test_D20_a_restart_begins_anew(self) -> None:
        """With what runs in it, and what it left running."""
        with self._named() as session:
            session.restart("a")  # there is none
            beat = unique("beat")
            code = f"x = 1\nimport subprocess\nsubprocess.Popen(['sh', '-c', {_BEAT % beat!r}])"
            session.code(code, state="a")
            session.code("x = 2", state="b")
            session.restart("a")
            new = session.code("x", state="a").error
            expect(new and new.name == "NameError", "D20", "a new interpreter", new)
            expect(self.stops_growing(session, beat), "D20", "the end of all it left", beat)
            execution = session.stream(code="print(1, flush=True)\nwhile True: pass", state="a")
            execution.take()
            session.restart("a")
            ended = execution.result()
            expect(ended.verdict is Verdict.CANCELLED, "D20", "the end of what ran", ended)
            kept = session.code("x", state="b").value
            expect(kept and kept.text == "2", "D20", "another one, which lives on", kept)
