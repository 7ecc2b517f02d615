"""What code in a named interpreter shows beside its output (D20): values, displays, errors."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest

from core.toolkit.supervised.double import TAKEN, Double, Outcome
from stockade.executions._shown import Shown
from stockade.results import CodeError, Display


class Seen:
    """What was shown, as a result has it."""

    def __init__(self, outcome: Outcome) -> None:
        self.out, self.err, self.status = outcome.out, outcome.err, outcome.status
        shown = Shown(1 << 20)
        shown.feed(outcome.shown)
        fields = shown.fields()
        self.value: Display | None = fields["value"]
        self.displays: tuple[Display, ...] = fields["displays"]
        self.error: CodeError | None = fields["error"]
        assert not fields["displays_truncated"]


def seen(named: Double, code: str, *, stdin: bytes = b"") -> Seen:
    return Seen(named.run(textwrap.dedent(code), stdin=stdin))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("x = 1\nx + 1", "2"),
        ("'a' 'b'", "'ab'"),
        ("x = 1", None),
        ("x = 1\nx;", None),
        ("None", None),
        ("if True:\n    4", None),
        ("", None),
        ("# nothing", None),
        ("from __future__ import division\n1 / 2", "0.5"),
        ("[i for i in range(3)]", "[0, 1, 2]"),
        ("int", "<class 'int'>"),
    ],
)
def test_the_value_of_the_last_expression(code: str, text: str | None, named: Double) -> None:
    found = seen(named, code)
    assert (found.status, found.out, found.err) == (0, b"", b"")
    assert (found.value and found.value.data["text/plain"]) == text
    assert found.displays == () and found.error is None


def test_the_last_value_has_a_name(named: Double) -> None:
    assert seen(named, "41").value == Display({"text/plain": "41"})
    assert seen(named, "_ + 1").value == Display({"text/plain": "42"})


RICH = """
    class Rich:
        def __repr__(self): return "rich"
        def _repr_html_(self): return "<b>r\\u00efch</b>"
        def _repr_png_(self): return b"\\x89PNG\\x00"
        def _repr_jpeg_(self): return "/9j/", {"width": 3}
        def _repr_svg_(self): return "<svg/>"
        def _repr_latex_(self): return "$r$"
        def _repr_markdown_(self): return "*r*"
        def _repr_json_(self): return {"r": [1, None]}
        def _repr_pdf_(self): return None
        def _repr_javascript_(self): raise NotImplementedError
"""
FORMS = {
    "text/plain": "rich",
    "text/html": "<b>rïch</b>",
    "image/png": b"\x89PNG\x00",
    "image/jpeg": b"\xff\xd8\xff",
    "image/svg+xml": "<svg/>",
    "text/latex": "$r$",
    "text/markdown": "*r*",
    "application/json": '{"r": [1, null]}',
}


def test_all_forms_of_a_thing(named: Double) -> None:
    found = seen(named, RICH + "\n    display(1, Rich())\n    Rich()")
    assert found.value is not None and dict(found.value.data) == FORMS
    assert [dict(one.data) for one in found.displays] == [{"text/plain": "1"}, FORMS]
    assert (found.value.html, found.value.png) == ("<b>rïch</b>", b"\x89PNG\x00")
    # Of the class itself only its name is shown.
    assert list(seen(named, "Rich").value.data) == ["text/plain"]  # type: ignore[union-attr]


def test_bundles_and_things_that_show_themselves(named: Double) -> None:
    found = seen(
        named,
        """
        class Bundle:
            def _repr_mimebundle_(self, include=None, exclude=None):
                return {"text/plain": "b", "application/vnd.x.v1+json": [1]}, {}
        class Itself:
            def _ipython_display_(self): display({"text/html": "<i>"}, raw=True)
        class Any:
            def __getattr__(self, name): return lambda *a, **k: "any"
            def __repr__(self): return "Any()"
        display(Bundle(), Itself(), Any())
        Itself()
        """,
    )
    forms = [dict(one.data) for one in found.displays]
    assert forms == [
        {"text/plain": "b", "application/vnd.x.v1+json": "[1]"},
        {"text/html": "<i>"},
        {"text/plain": "Any()"},
        {"text/html": "<i>"},
    ]
    assert found.value is None


def test_a_form_that_fails_leaves_the_others(named: Double) -> None:
    found = seen(
        named,
        """
        class Half:
            def __repr__(self): return "half"
            def _repr_html_(self): return 1 / 0
        Half()
        """,
    )
    assert found.value == Display({"text/plain": "half"}) and found.status == 0
    assert b"ZeroDivisionError" in found.err


def test_errors_have_name_message_and_traceback(named: Double) -> None:
    found = seen(named, "def f():\n    raise KeyError('k')\n\nf()")
    assert found.error == CodeError("KeyError", "'k'", found.err.decode()) and found.status == 1
    assert found.error.traceback.splitlines()[1] == '  File "<code 1>", line 4, in <module>'
    assert "stockade" not in found.error.traceback and "<string>" not in found.error.traceback
    broken = seen(named, "x = = 1").error
    assert broken is not None and broken.name == "SyntaxError"
    assert broken.traceback.startswith('  File "<code 2>", line 1\n')
    shown = seen(named, "class R:\n    def __repr__(self): raise ValueError('r')\nR()")
    assert shown.error is not None and shown.status == 1
    assert shown.error.traceback.splitlines()[1].startswith('  File "<code 3>", line 2')
    assert seen(named, "exit(3)").error is None


def test_nothing_runs_of_a_text_that_is_no_program(named: Double) -> None:
    found = seen(named, "print('ran')\nreturn 3")
    assert (found.out, found.status) == (b"", 1)


def test_await_at_the_top(named: Double, python: str) -> None:
    if any(old in python for old in ("3.6", "3.7")):
        pytest.skip("this Python has no await at the top")
    found = seen(
        named,
        """
        import asyncio
        async def f(n):
            await asyncio.sleep(0.01)
            return n
        x = await f(2)
        await f(x + 1)
        """,
    )
    assert found.value == Display({"text/plain": "3"}), found.err
    found = seen(named, "later = asyncio.ensure_future(f(7))\nawait f(0)\nx")
    assert found.value == Display({"text/plain": "2"}), found.err
    assert seen(named, "await later").value == Display({"text/plain": "7"})
    failed = seen(named, "async def g(): 1 / 0\nawait g()")
    assert failed.error is not None and failed.error.name == "ZeroDivisionError"
    lines = failed.error.traceback.splitlines()
    assert lines[1].startswith('  File "<code 4>", line 2'), failed.error.traceback
    assert seen(named, "asyncio.run(f(9))" if "3.6" not in python else "9").value is not None


def test_an_interrupt_ends_an_await_and_keeps_what_there_is(named: Double, python: str) -> None:
    if any(old in python for old in ("3.6", "3.7")):
        pytest.skip("this Python has no await at the top")
    started = named.start(
        b"import asyncio\nx = 1\nprint('on', flush=True)\nawait asyncio.sleep(300)"
    )
    kind, pid = named.hear()
    assert kind == TAKEN
    assert os.read(started.out, 3) == b"on\n"
    os.kill(pid, signal.SIGINT)
    shown = Shown(1 << 20)
    ended = started.end()
    shown.feed(ended.shown)
    error = shown.fields()["error"]
    assert error is not None and error.name == "KeyboardInterrupt"
    assert seen(named, "await asyncio.sleep(0)\nx").value == Display({"text/plain": "1"})


def test_input_has_nobody_to_ask(named: Double) -> None:
    found = seen(named, "input('who? ')")
    assert found.error is not None and found.error.name == "EOFError"
    assert "stdin" in found.error.message
    assert seen(named, "input()", stdin=b"me\n").value == Display({"text/plain": "'me'"})


def test_what_a_child_shows_is_nobodys(named: Double) -> None:
    found = seen(
        named,
        """
        import os, subprocess, sys
        pid = os.fork()
        if not pid:
            display("child")
            os._exit(0)
        os.waitpid(pid, 0)
        look = "import os; print([n for n in os.listdir('/proc/self/fd') if int(n) in (10, 11)])"
        print(subprocess.check_output([sys.executable, "-c", look], close_fds=False).decode())
        display("parent")
        """,
    )
    assert found.out == b"[]\n\n", found.err
    assert [one.text for one in found.displays] == ["'parent'"]


def test_nothing_is_shown_between_jobs(named: Double) -> None:
    """A thread of an earlier job shows in the job that runs, or nowhere."""
    named.run("import threading\ngo = threading.Event()\n")
    named.run("t = threading.Thread(target=lambda: (go.wait(), display('late')))\nt.start()")
    named.run("go.set(); t.join(5)")
    assert seen(named, "1").value == Display({"text/plain": "1"})


def test_a_program_that_takes_its_descriptors_away_shows_nothing(named: Double) -> None:
    found = seen(named, "import os\nos.closerange(11, 99)\ndisplay(1)\nprint(2)\n3")
    assert (found.out, found.value, found.status) == (b"2\n", None, 0)
    assert seen(named, "4").value == Display({"text/plain": "4"})


LIBRARIES = {
    "matplotlib/__init__.py": "",
    "matplotlib/figure.py": """
        class Figure:
            def __init__(self, number): self.number = number
            def __repr__(self): return "<Figure %d>" % self.number
            def savefig(self, into, format, bbox_inches):
                assert format == "png"
                into.write(b"\\x89PNG%d" % self.number)
    """,
    "matplotlib/pyplot.py": """
        from matplotlib.figure import Figure
        _open = {}
        def figure(number=None):
            number = number or len(_open) + 1
            return _open.setdefault(number, Figure(number))
        def get_fignums(): return list(_open)
        def close(which): _open.clear()
        def show(): raise NotImplementedError("a window")
    """,
    "IPython/__init__.py": "",
    "IPython/core/__init__.py": "",
    "IPython/core/display_functions.py": "def display(*a): print('no shell', *a)",
    "IPython/display.py": """
        from IPython.core.display_functions import display
        class HTML:
            def __init__(self, data): self.data = data
            def _repr_html_(self): return self.data
            def __repr__(self): return "<HTML>"
    """,
}


def test_figures_and_ipythons_display(named: Double, tmp_path: Path) -> None:
    """Stand-ins with the same methods."""
    for name, text in LIBRARIES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    found = seen(named, path + "import matplotlib.pyplot as plt\nplt.figure()\nplt.show()\n1")
    assert [one.png for one in found.displays] == [b"\x89PNG1"], found.err
    assert found.value == Display({"text/plain": "1"})
    found = seen(named, "plt.figure(); plt.figure()\nNone")
    assert [one.png for one in found.displays] == [b"\x89PNG1", b"\x89PNG2"]
    assert seen(named, "plt.get_fignums()").value == Display({"text/plain": "[]"})
    failed = seen(named, "plt.figure()\n1 / 0")
    assert len(failed.displays) == 1 and failed.error is not None
    found = seen(named, "from IPython.display import display, HTML\ndisplay(HTML('<p>'))")
    assert [one.html for one in found.displays] == ["<p>"], (found.out, found.err)
