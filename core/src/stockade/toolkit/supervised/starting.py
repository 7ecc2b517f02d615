"""From a request to the supervisor's order (D1, D10)."""

from __future__ import annotations

from stockade.errors import ConfigError
from stockade.lower import lower
from stockade.toolkit.supervised.link import Order
from stockade.wall import ExecRequest, Form

__all__ = ["order_of"]

#: Descriptor 9 holds the text: no argument, and the program's input stays its own.
_SHELL = ("sh", "-c", ". /proc/self/fd/9", "sh")


def order_of(request: ExecRequest) -> tuple[Order, bytes]:
    """The order, and what the program reads. Raises ConfigError, LanguageError."""
    if request.form is Form.SHELL:
        if "\0" in request.script:
            raise ConfigError("a shell line holds NUL, which no shell takes; remove it.")
        blob = request.script.encode("utf-8", "surrogateescape") + b"\n"
        order = Order(argv=_SHELL, cwd=request.working_dir, env=request.env, blob=blob)
        return order, request.stdin
    request = lower(request)
    return Order(argv=request.argv, cwd=request.working_dir, env=request.env), request.stdin
