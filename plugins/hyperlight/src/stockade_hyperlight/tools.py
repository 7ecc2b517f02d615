"""Host functions that code inside may call by name.

Two gates: the application registers a function under a name, in its own code, and
a session names it in the option ``tools``. A provider string alone opens nothing: it
may come from a configuration or a caller, and what could be imported by name is
far more than anybody means to hand to untrusted code.

    import stockade, stockade_hyperlight

    stockade_hyperlight.allow_tool("lookup", lambda key: table[key])
    with stockade.open("hyperlight?tools=lookup") as session:
        session.code("print(call_tool('lookup', key='a'))")
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from stockade.errors import ConfigError
from stockade.system.forks import FreshLock

__all__ = ["MAX_ANSWER_BYTES", "ToolError", "allow_tool", "call", "chosen", "forget_tool"]

#: The longest answer that goes back in, as JSON.
MAX_ANSWER_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")

_lock = FreshLock()
_tools: dict[str, Callable[..., Any]] = {}


class ToolError(Exception):
    """Raised by a host function: its text is shown to the code inside.

    Of any other exception the code inside learns the type's name alone, since its text
    may hold what is the host's.
    """


def allow_tool(name: str, function: Callable[..., Any]) -> None:
    """Register ``function`` for sessions that name it in the option ``tools``.

    It is called in this process, from a thread of the execution's, with keyword arguments
    that the code inside chose: plain JSON values of any shape, not to be trusted. What it
    returns must be JSON as well. A deadline does not stop it; its answer is dropped then.
    Registering a name again replaces the function. Raises ConfigError for a name that is
    not letters, digits and ``_``.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigError(f"tool name {name!r} is not allowed: letters, digits and _, 64 at most.")
    if not callable(function):
        raise ConfigError(f"tool {name!r} is {function!r}, which cannot be called.")
    with _lock:
        _tools[name] = function


def forget_tool(name: str) -> None:
    """Take a registered function back, from running sessions too."""
    with _lock:
        _tools.pop(name, None)


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, checked: each was registered. Raises ConfigError."""
    with _lock:
        missing = [name for name in names if name not in _tools]
    if missing:
        raise ConfigError(
            f"tools={','.join(missing)} is not registered; the program that opens the session "
            "calls stockade_hyperlight.allow_tool(name, function) first."
        )
    return tuple(dict.fromkeys(names))


def call(allowed: tuple[str, ...], name: object, arguments: object) -> dict[str, Any]:
    """Call one for the code inside: ``{"value": …}`` or ``{"error": text}``, never raising."""
    with _lock:
        function = _tools.get(name) if isinstance(name, str) and name in allowed else None
    if function is None:
        return {"error": "there is no such tool"}
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        return {"error": "arguments are named"}
    try:
        answer = {"value": function(**arguments)}
        size = len(json.dumps(answer))
    except ToolError as error:
        return {"error": str(error)[:2000]}
    except Exception as error:
        return {"error": type(error).__name__}
    if size > MAX_ANSWER_BYTES:
        return {"error": f"the answer is longer than {MAX_ANSWER_BYTES} bytes"}
    return answer
