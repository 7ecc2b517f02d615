"""How a named interpreter runs a text: as a notebook runs a cell.

The value of its last expression is shown, ``await`` may stand at its top, and ``input`` that
has nobody to ask says so.
"""

import _ast
import builtins
import sys

from stockade.lowering.inside.program import text_of
from stockade.toolkit.supervised.inside.ending import attempt
from stockade.toolkit.supervised.inside.shown import (
    Hooks,
    display,
    send_error,
    show_figures,
    show_value,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from types import CodeType, TracebackType
    from typing import Any

#: ``await`` at the top; not before Python 3.8.
AWAITS = getattr(_ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)
COROUTINE = 0x80
NOBODY = "input() has nobody to ask here: give what it is to read as the call's stdin"


def be_notebook() -> None:
    """What code finds in a named interpreter beside what every Python has."""
    sys.displayhook = show_value
    sys.meta_path.insert(0, Hooks())
    builtins.display = display  # type: ignore[attr-defined]
    asked = builtins.input

    def input(prompt: object = "") -> str:
        try:
            return asked(prompt)
        except EOFError:
            raise EOFError(NOBODY) from None

    builtins.input = input


def run_text(data: bytes, name: str, variables: "dict[str, object]") -> None:
    """Run it, and show what is to be shown. Raises what it raises."""
    text = text_of(data)
    tree: Any = compile(text, name, "exec", _ast.PyCF_ONLY_AST, True)
    last = None
    if tree.body and isinstance(tree.body[-1], _ast.Expr) and not is_silent(text):
        last = tree.body.pop()
    codes = []
    flags = AWAITS
    if tree.body:
        codes.append(compile(tree, name, "exec", flags, True))
        flags |= codes[0].co_flags & futures()
    if last is not None:
        codes.append(compile(_ast.Expression(last.value), name, "eval", flags, True))
    value = None
    for code in codes:
        value = evaluate(code, variables)
    if last is not None:
        sys.displayhook(value)


def is_silent(text: "str | bytes") -> bool:
    """Whether its last value is not to be shown."""
    return text.rstrip()[-1:] in (";", b";")


def futures() -> int:
    import __future__

    flags = 0
    for name in __future__.all_feature_names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


def evaluate(code: "CodeType", variables: "dict[str, object]") -> object:
    if not code.co_flags & COROUTINE:
        return eval(code, variables)  # noqa: S307
    import asyncio  # first: where there is none, nothing begins

    return awaited(asyncio, eval(code, variables))  # noqa: S307


class Loop:
    """The event loop of all texts: what one has begun goes on while another awaits."""

    now: "asyncio.AbstractEventLoop | None" = None


def awaited(asyncio: "Any", coroutine: "Any") -> object:
    loop = Loop.now
    if loop is None or loop.is_closed():
        loop = Loop.now = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except KeyboardInterrupt:
        if not task.done():
            task.cancel()
            attempt(lambda: loop.run_until_complete(task))
        raise


def own_part(tb: "TracebackType | None") -> "TracebackType | None":
    """A traceback without the frames that only ran the text."""
    ours = globals()
    while tb is not None and tb.tb_frame.f_globals is ours:
        tb = tb.tb_next
    here = tb
    while here is not None:
        if here.tb_frame.f_code.co_filename.startswith("<code "):
            return here
        here = here.tb_next
    return tb


def report_error() -> None:
    """Send the error that is being handled."""
    import traceback

    kind, error, tb = sys.exc_info()
    if kind is None or error is None:
        return
    try:
        message = str(error)
    except Exception:
        message = "<it has no text>"
    try:
        lines = traceback.format_exception(kind, error, own_part(tb))
    except Exception:
        lines = []
    send_error(kind.__name__, message, "".join(lines))


def show_the_rest() -> None:
    """At the end of a text: figures that nobody has shown."""
    try:
        show_figures()
    except Exception:
        import traceback

        traceback.print_exc()
