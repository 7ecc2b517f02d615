"""Guarded calls of hooks: one that fails, or answers with another type, is dealt with alone.

pluggy calls the implementations: its order, its wrappers, its history. What stands in its manager
is a :class:`Guarded` for each plug-in, whose hooks catch what the plug-in's own raise. What becomes
of it differs from hook to hook, and from call to call: that is a :class:`Guard`'s to say, which is
in force while its hook is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

import attrs
import pluggy

__all__ = ["Guard", "Guarded", "Who"]

_mark = pluggy.HookimplMarker("stockade")


@attrs.frozen
class Who:
    """A plug-in as messages name it, and what its user can do about it."""

    name: str
    remedy: str = "Mend it or remove it."

    def __str__(self) -> str:
        return self.name


class Guard:
    """One call of one hook; it lets everything pass, and subclasses do otherwise.

    Its methods are called in the thread of the call, for each implementation in pluggy's order.
    """

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def call(self, hook: Callable[..., Any], *given: Any, **arguments: Any) -> Any:
        """Call the hook, which must be this guard's (or what has pluggy call it), with the
        guard in force."""
        token = _in_force.set(self)
        try:
            return hook(*given, **arguments)
        finally:
            _in_force.reset(token)

    def given(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """What an implementation is given in place of the arguments that the hook was called
        with; as many as it takes."""
        return arguments

    def answered(self, who: Who, answer: object) -> object:
        """What counts as the implementation's answer. What this raises ends the call."""
        return answer

    def wrapped(self, who: Who, answer: object, outcome: object) -> object:
        """The same for what a wrapper returns, made of the ``outcome`` that it was given.
        A ``hookwrapper``, pluggy's older kind, has no answer, so this is not called for it."""
        return answer

    def failed(self, who: Who, error: BaseException) -> object:
        """What counts as the answer of an implementation that raised; by default nothing does,
        and the error goes on. A wrapper's answer is not used: it counts as not there."""
        raise error


_in_force: ContextVar[Guard | None] = ContextVar("stockade_guard", default=None)


def _guard(hook: str) -> Guard:
    """The guard in force, where it is this hook's; else one that lets all pass."""
    guard = _in_force.get()
    return guard if guard is not None and guard.hook == hook else Guard(hook)


class Guarded:
    """Stands in pluggy's manager for a plug-in: its hooks, each behind a guard."""

    def __init__(self, manager: pluggy.PluginManager, plugin: object, who: Who) -> None:
        self.plugin = plugin
        #: The names of the hooks that it implements.
        self.hooks: tuple[str, ...] = ()
        for name in dir(plugin):
            options = manager.parse_hookimpl_opts(plugin, name)
            if options is None:
                continue
            hook = options.get("specname") or name
            function = getattr(plugin, name)
            if options.get("wrapper") or options.get("hookwrapper"):
                guarded = _wrapper(hook, function, who, answers=bool(options.get("wrapper")))
            else:
                guarded = _plain(hook, function, who)
            setattr(self, name, _mark(guarded, **options))
            self.hooks += (hook,)


def _plain(hook: str, function: Callable[..., object], who: Who) -> Callable[..., object]:
    # wraps: pluggy reads from it which arguments the implementation takes.
    @functools.wraps(function)
    def guarded(*arguments: Any) -> object:
        guard = _guard(hook)
        try:
            answer = function(*guard.given(arguments))
        except BaseException as error:
            return guard.failed(who, error)
        return guard.answered(who, answer)

    return guarded


def _wrapper(
    hook: str, function: Callable[..., Any], who: Who, *, answers: bool
) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*arguments: Any) -> Generator[None, Any, object]:
        guard = _guard(hook)
        inner = _begun(guard, who, function, arguments)
        try:
            outcome = yield
        except BaseException as error:
            if inner is None:
                raise
            return _resumed(guard, who, inner, error, answers)
        return outcome if inner is None else _resumed(guard, who, inner, outcome, answers)

    return guarded


def _begun(
    guard: Guard, who: Who, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Generator[None, Any, object] | None:
    """A wrapper that has come to its yield; None if it failed before, and may be left out."""
    try:
        inner: Generator[None, Any, object] = function(*guard.given(arguments))
        next(inner)
    except StopIteration:
        guard.failed(who, RuntimeError("it is a wrapper and did not yield"))
    except BaseException as error:
        guard.failed(who, error)
    else:
        return inner
    return None


def _resumed(
    guard: Guard, who: Who, inner: Generator[None, Any, object], outcome: object, answers: bool
) -> object:
    """What a wrapper makes of the outcome, an exception among them; the outcome as it was where
    the wrapper fails and may be left out."""
    came = outcome if isinstance(outcome, BaseException) else None
    try:
        if came is None:
            inner.send(outcome)
        else:
            inner.throw(came)
    except StopIteration as end:
        return guard.wrapped(who, end.value, outcome) if answers else None
    except BaseException as error:
        if error is not came:
            guard.failed(who, error)
        return _as_it_was(outcome)
    inner.close()
    guard.failed(who, RuntimeError("it is a wrapper and yielded twice"))
    return _as_it_was(outcome)


def _as_it_was(outcome: object) -> object:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
