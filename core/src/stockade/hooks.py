"""Asking policies and telling observers (the group ``stockade.plugins``)."""

from __future__ import annotations

import logging
import threading
from typing import TypeVar

import attrs
import pluggy

from stockade import plugin as api
from stockade.config import SandboxConfig
from stockade.discovery import installed, load_module
from stockade.errors import ConfigError, PolicyError, PolicyRefusedError
from stockade.events import Event
from stockade.proposals import (
    ExecutionProposal,
    Refuse,
    SessionProposal,
    Tighten,
    loosened,
)
from stockade.shown import named
from stockade.strangers import is_the_users

__all__ = ["Hooks"]

_log = logging.getLogger(__name__)
_N = TypeVar("_N", bound=float)


class Hooks:
    """Every policy and observer of a runtime: installed ones, and those added by hand."""

    def __init__(self, *, discover: bool = True) -> None:
        self._discover = discover
        # Reentrant: a plug-in may register another while it is imported.
        self._lock = threading.RLock()
        self._manager = _manager()

    def renew(self) -> None:
        """In a forked child: another thread may have held the lock."""
        self._lock = threading.RLock()

    def add(self, plugin: object, name: str | None = None) -> None:
        """Register an object or module with hooks; raises PluginValidationError."""
        with self._lock:
            _register(self._manager, plugin, name)

    def remove(self, plugin: object) -> None:
        with self._lock:
            self._manager.unregister(plugin)

    def load(self) -> None:
        """Load the installed ones, once, when the first session is opened.

        A broken one raises PluginError and refuses the session, each time until
        it is mended or removed: it may be the policy that should have refused.
        """
        with self._lock:
            if not self._discover:
                return
            loaded = [
                (found, load_module(found, (api.ProviderHooks, api.SystemHooks)))
                for found in installed(api.PLUGIN_GROUP)
            ]
            for found, manager in loaded:
                for module in manager.get_plugins():
                    _register(self._manager, module, f"{found.distribution}:{found.name}")
            self._discover = False

    def judge_session(self, proposal: SessionProposal) -> SandboxConfig:
        """The configuration all policies agree to; PolicyRefusedError, PolicyError."""
        for impl in reversed(self._manager.hook.stockade_session_policy.get_hookimpls()):
            answer = _ask(impl, proposal)
            if answer is None:
                continue
            if not isinstance(answer, SandboxConfig):
                raise PolicyError(_nonsense(impl, answer, "None, a SandboxConfig or Refuse"))
            looser = loosened(answer, proposal.config)
            if looser:
                raise PolicyError(
                    f"policy {impl.plugin_name} would loosen {', '.join(looser)}; a policy may "
                    "only tighten. Mend the policy or remove it."
                )
            proposal = attrs.evolve(proposal, config=answer)
        return proposal.config

    def judge_execution(self, proposal: ExecutionProposal) -> ExecutionProposal:
        """The proposal with what policies tightened; PolicyRefusedError, PolicyError."""
        for impl in reversed(self._manager.hook.stockade_execution_policy.get_hookimpls()):
            answer = _ask(impl, proposal)
            if answer is None:
                continue
            if not isinstance(answer, Tighten):
                raise PolicyError(_nonsense(impl, answer, "None, Tighten or Refuse"))
            proposal = _tighten(impl, proposal, answer)
        return proposal

    def tell(self, event: Event) -> None:
        """Tell every observer; whatever one raises is logged and stops nobody.

        The user's interrupt alone goes on, once all of them know.
        """
        interrupt: BaseException | None = None
        for impl in self._manager.hook.stockade_event.get_hookimpls():
            try:
                impl.function(*([event] if impl.argnames else []))
            except BaseException as error:  # a caller would hang on what core had yet to do
                _log.exception("observer %s failed on %s", impl.plugin_name, event.kind)
                interrupt = error if is_the_users(error) else interrupt
        if interrupt is not None:
            raise interrupt


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("stockade")
    manager.add_hookspecs(api.SystemHooks)
    manager.add_hookspecs(api.ProviderHooks)
    return manager


def _register(manager: pluggy.PluginManager, plugin: object, name: str | None) -> None:
    manager.register(plugin, name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        manager.unregister(plugin)
        raise


def _ask(impl: pluggy.HookImpl, proposal: SessionProposal | ExecutionProposal) -> object:
    try:
        answer: object = impl.function(*([proposal] if impl.argnames else []))
    except BaseException as error:
        if is_the_users(error):
            raise
        raise PolicyError(
            f"policy {impl.plugin_name} failed, so nothing was started: "
            f"{named(error)}. Mend the policy or remove it."
        ) from error
    if isinstance(answer, Refuse):
        raise PolicyRefusedError(f"policy {impl.plugin_name} refuses: {answer.reason}")
    return answer


def _nonsense(impl: pluggy.HookImpl, answer: object, allowed: str) -> str:
    return f"policy {impl.plugin_name} answered {answer!r}, which is not {allowed}; mend it."


def _tighten(
    impl: pluggy.HookImpl, proposal: ExecutionProposal, change: Tighten
) -> ExecutionProposal:
    request = proposal.request
    _check_limits(impl, change)
    seconds = _smaller(impl, "timeout_seconds", change.timeout_seconds, request.timeout_seconds)
    output = _smaller(
        impl, "output_limit_bytes", change.output_limit_bytes, proposal.output_limit_bytes
    )
    return attrs.evolve(
        proposal,
        request=attrs.evolve(request, timeout_seconds=seconds),
        output_limit_bytes=output,
    )


def _check_limits(impl: pluggy.HookImpl, change: Tighten) -> None:
    """A limit that is none (NaN, zero, text) would otherwise pass as a small one (B2)."""
    limits = attrs.asdict(change)
    try:
        SandboxConfig().with_(
            **{name: value for name, value in limits.items() if value is not None}
        )
    except ConfigError as error:
        raise PolicyError(f"policy {impl.plugin_name} answered {change!r}: {error}") from error


def _smaller(impl: pluggy.HookImpl, name: str, new: _N | None, old: _N | None) -> _N | None:
    """The limit that a policy leaves; None is no limit in ``old``, no change in ``new``."""
    if new is None:
        return old
    if old is not None and new > old:
        raise PolicyError(
            f"policy {impl.plugin_name} would loosen {name} of an execution from {old!r} to "
            f"{new!r}; a policy may only tighten. Mend the policy or remove it."
        )
    return new
