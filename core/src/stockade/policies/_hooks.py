"""The plug-in manager of a runtime: who is registered, who is blocked, and the hooks called."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from stockade import plugin as api
from stockade._proposals import (
    ExecutionProposal,
    JudgedExecution,
    RequestProposal,
    SessionProposal,
)
from stockade.config import SandboxConfig
from stockade.errors import PluginError, StockadeError
from stockade.events import Event
from stockade.lowering.argv import KNOWN
from stockade.policies._guards import Guarded, Who
from stockade.policies._hook_calls import (
    Collecting,
    ExecutionJudging,
    Notifying,
    Passing,
    RequestJudging,
    SessionJudging,
)
from stockade.results import SandboxResult
from stockade.selection._discovery import InstalledPlugin, installed, load
from stockade.system.forks import FreshLock
from stockade.values.shown import named
from stockade.wall import Check, Language, Wall

__all__ = ["DISABLED_VARIABLE", "Hooks", "default_hooks"]

_log = logging.getLogger(__name__)

#: Names plug-ins that are not loaded: entry points, distributions, or ``distribution:name``,
#: separated by commas.
DISABLED_VARIABLE = "STOCKADE_DISABLED_PLUGINS"


class Hooks:
    """One pluggy manager, in which every policy, observer and middleware is registered, and the
    module of each provider that was selected. Safe from any thread."""

    def __init__(self, *, discover: bool = True, disabled: Iterable[str] | None = None) -> None:
        """With ``discover`` the installed plug-ins are loaded when ``load`` is called.

        ``disabled`` names those that are never loaded; by default those that the environment
        names (STOCKADE_DISABLED_PLUGINS).
        """
        self._to_load = discover
        self.disabled = frozenset(disabled_names() if disabled is None else disabled)
        # Reentrant: a plug-in may register another while it is imported.
        self._lock = threading.RLock()
        self._manager = pluggy.PluginManager("stockade")
        self._manager.add_hookspecs(api.SystemHooks)
        self._manager.add_hookspecs(api.ProviderHooks)
        #: What stands in the manager for a plug-in, by the plug-in's identity.
        self._guarded: dict[int, Guarded] = {}
        #: Whether executions have middleware, policies and observers; kept, since each asks, and
        #: calling a hook that nobody implements costs as much as one that somebody does.
        self.has_middleware = self._has_policies = self._has_observers = False
        self._languages: Mapping[str, Language] | None = None
        self._core: Guarded | None = None
        self._core_last()

    def renew(self) -> None:
        """In a forked child: another thread may have held the lock."""
        self._lock = threading.RLock()

    # -- who is registered -----------------------------------------------------

    def add(self, plugin: object, name: str | None = None) -> None:
        """Register an object or module with hooks.

        Raises ``pluggy.PluginValidationError`` for a hook that is none, ValueError if it is
        registered already. A historic hook that was called before is called with it at once.
        """
        with self._lock:
            named_as = name or self._manager.get_canonical_name(plugin)
            self._register(plugin, Who(named_as))

    def remove(self, plugin: object) -> None:
        """Take out what ``add`` registered; ValueError for what is not there."""
        with self._lock:
            if id(plugin) not in self._guarded:
                raise ValueError(f"{plugin!r} is not registered")
            self._unregister(plugin)

    def load(self) -> None:
        """Load the installed plug-ins, once, when the first session is opened.

        A broken one raises PluginError and refuses the session, each time until it is mended,
        removed or blocked: it may be the policy that should have refused.
        """
        for error in self.load_what_can_be():
            raise error

    def load_what_can_be(self) -> list[PluginError]:
        """Load the installed plug-ins that are not broken; why the others are."""
        if not self._to_load:
            return []
        broken = []
        with self._lock:
            for found in installed(api.PLUGIN_GROUP) if self._to_load else ():
                if self.is_blocked(found):
                    _log.warning("plug-in %s is not loaded: %s", found.id, _blocked(found))
                    continue
                try:
                    self._admit(found)
                except PluginError as error:
                    broken.append(error)
            self._to_load = bool(broken)
        return broken

    def is_blocked(self, found: InstalledPlugin) -> bool:
        """Whether it is one of the disabled ones."""
        return is_disabled(found, self.disabled)

    def admit(self, found: InstalledPlugin) -> tuple[str, ...]:
        """Load and register one plug-in; the names of its hooks. Raises PluginError."""
        with self._lock:
            return self._admit(found).hooks

    def wall(self, found: InstalledPlugin) -> type[Wall]:
        """Register a provider's module, and the class that its ``stockade_wall`` gives (A6).

        Raises PluginError; nothing of the module is registered then.
        """
        if self.is_blocked(found):
            raise PluginError(f"provider {found.name!r} is not loaded: {_blocked(found)}")
        with self._lock:
            guarded = self._admit(found)
            others = [one for one in self._manager.get_plugins() if one is not guarded]
            hook = self._manager.subset_hook_caller("stockade_wall", others)
        try:
            return _checked(found, hook)
        except BaseException:
            with self._lock:
                self._unregister(guarded.plugin)
            raise

    def implementers(self, hook: str) -> list[str]:
        """The names of the plug-ins that implement a hook, in the order in which they are
        called, wrappers last."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [impl.plugin_name for impl in reversed(found)]

    def _admit(self, found: InstalledPlugin) -> Guarded:
        module = load(found)
        known = self._guarded.get(id(module))
        if known is not None:  # one module in both groups
            return known
        remedy = (
            f"Mend it, uninstall {found.distribution}, or go on without it: "
            f"{DISABLED_VARIABLE}={found.name}."
        )
        try:
            return self._register(module, Who(found.id, remedy))
        except pluggy.PluginValidationError as error:
            raise PluginError(
                f"{found.where}: it implements a hook that stockade does not have, or with other "
                f"arguments: {error}. See stockade.plugin for the hooks; update "
                f"{found.distribution}, or go on without it: {DISABLED_VARIABLE}={found.name}."
            ) from error

    def _register(self, plugin: object, who: Who) -> Guarded:
        if id(plugin) in self._guarded:
            raise ValueError(f"{plugin!r} is registered already")
        guarded = Guarded(self._manager, plugin, who)
        try:
            # Historic hooks that were called before are called with it now.
            _adding().call(self._manager.register, guarded, who.name)
            self._manager.check_pending()
        except pluggy.PluginValidationError:
            if self._manager.is_registered(guarded):  # older pluggies stop half way
                self._manager.unregister(guarded)
            raise
        self._guarded[id(plugin)] = guarded
        self._core_last()
        self._changed()
        return guarded

    def _core_last(self) -> None:
        """Register core's own anew: pluggy asks the newest of those with ``trylast`` last. The
        old one goes after it, so that an execution that begins now finds one of them."""
        old = self._core
        self._core = Guarded(self._manager, _Core(), Who("stockade"))
        self._manager.register(self._core)
        if old is not None:
            self._manager.unregister(old)

    def _unregister(self, plugin: object) -> None:
        guarded = self._guarded.pop(id(plugin), None)
        if guarded is not None:
            self._manager.unregister(guarded)
            self._changed()

    def _changed(self) -> None:
        self._languages = None
        hooks = self._manager.hook
        self.has_middleware = len(hooks.stockade_execution.get_hookimpls()) > 1
        self._has_policies = bool(hooks.stockade_execution_policy.get_hookimpls())
        self._has_observers = bool(hooks.stockade_event.get_hookimpls())

    # -- the hooks -------------------------------------------------------------

    def judge_session(self, proposal: SessionProposal) -> SandboxConfig:
        """The configuration all policies agree to; PolicyRefusedError, PolicyError."""
        judging = SessionJudging(proposal)
        return judging.judge(self._manager.hook.stockade_session_policy).config

    def judge_execution(self, proposal: ExecutionProposal) -> ExecutionProposal:
        """The proposal with what policies tightened; PolicyRefusedError, PolicyError."""
        if not self._has_policies:
            return proposal
        return ExecutionJudging(proposal).judge(self._manager.hook.stockade_execution_policy)

    def judge_request(self, proposal: RequestProposal) -> None:
        """Have policies agree to what a program asks of a host; PolicyRefusedError,
        PolicyError."""
        RequestJudging(proposal).judge(self._manager.hook.stockade_request)

    def execute(self, execution: JudgedExecution) -> SandboxResult:
        """Execute through all middleware. Raises MiddlewareError, and what an execution does."""
        return Passing(execution).execute(self._manager.hook.stockade_execution)

    @property
    def languages(self) -> Mapping[str, Language]:
        """Every known language by its name and its aliases; of two of one name the one that
        pluggy's order has first."""
        known = self._languages
        if known is None:
            collecting = Collecting("stockade_languages", _check_languages)
            answers = collecting.call(self._manager.hook.stockade_languages)
            every = [language for answer in answers for language in answer]
            names = {language.name: language for language in reversed(every)}
            aliases = {word: one for one in reversed(every) for word in one.aliases}
            known = self._languages = {**aliases, **names}
        return known

    def add_commands(self, group: object) -> None:
        """Have every plug-in add its commands to the command line's group, those that are
        registered later, too; one that fails is logged."""
        _adding().call(
            self._manager.hook.stockade_add_commands.call_historic, kwargs={"group": group}
        )

    def doctor_checks(self) -> list[Check]:
        """What plug-ins looked at; one that failed at it is a check that is not ok."""
        collecting = Collecting("stockade_doctor_checks", _check_checks)
        answers = collecting.call(self._manager.hook.stockade_doctor_checks)
        failed = [
            Check(f"plug-in {who}", False, f"its checks failed: {named(error)}", who.remedy)
            for who, error in collecting.failures
        ]
        return [check for answer in answers for check in answer] + failed

    def report_sections(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """What plug-ins add to a conformance report; of two of one title the one that pluggy's
        order has first. One that fails adds nothing, and is logged."""
        collecting = Collecting("stockade_report_sections", _check_sections)
        answers = collecting.call(self._manager.hook.stockade_report_sections, report=report)
        sections: dict[str, Any] = {}
        for answer in reversed(answers):
            sections.update(answer)
        return sections

    def notify(self, event: Event) -> None:
        """Notify every observer; whatever one raises is logged and stops nobody.

        The user's interrupt alone goes on, once all of them are notified.
        """
        if self._has_observers:
            Notifying(event).notify(self._manager.hook.stockade_event)


class _Core:
    """Core's own implementations."""

    @api.hookimpl(trylast=True)
    def stockade_execution(self, execution: JudgedExecution) -> SandboxResult:
        return execution._run()

    @api.hookimpl(trylast=True)
    def stockade_languages(self) -> Iterable[Language]:
        return KNOWN


def _adding() -> Collecting:
    return Collecting("stockade_add_commands")


def _check_languages(answer: object) -> None:
    for one in _several(answer):
        if not isinstance(one, Language) or not one.name or not one.programs:
            raise TypeError(f"{one!r:.200} is no Language with a name and programs")


def _check_checks(answer: object) -> None:
    for one in _several(answer):
        if not isinstance(one, Check):
            raise TypeError(f"{one!r:.200} is no Check")


def _check_sections(answer: object) -> None:
    if not isinstance(answer, Mapping):
        raise TypeError(f"{answer!r:.200} is no mapping from titles to data")
    json.dumps(answer)  # raises for what JSON has not


def _several(answer: object) -> Iterable[object]:
    if not isinstance(answer, (list, tuple)):
        raise TypeError(f"{answer!r:.200} is no list")
    return answer


def disabled_names() -> frozenset[str]:
    """What STOCKADE_DISABLED_PLUGINS names."""
    words = os.environ.get(DISABLED_VARIABLE, "").split(",")
    return frozenset(word.strip() for word in words if word.strip())


def is_disabled(found: InstalledPlugin, names: frozenset[str]) -> bool:
    """Whether one of the names stands for this plug-in."""
    known = {found.name, found.distribution, f"{found.distribution}:{found.name}"}
    return not names.isdisjoint(known)


def _blocked(found: InstalledPlugin) -> str:
    return f"{DISABLED_VARIABLE} blocks {found.name!r} of {found.distribution}; take it out there."


def _checked(found: InstalledPlugin, hook: pluggy.HookCaller) -> type[Wall]:
    try:
        wall = hook()
    except StockadeError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{found.where}: its stockade_wall hook failed: {named(error)}. "
            f"Reinstall or remove {found.distribution}."
        ) from error
    if not (isinstance(wall, type) and issubclass(wall, Wall)):
        given = "nothing" if wall is None else repr(wall)
        raise PluginError(
            f"{found.where}: its stockade_wall hook gave {given}, not a subclass of "
            "stockade.wall.Wall; mark the function with @hookimpl and return the class."
        )
    return wall


_default: Hooks | None = None
_default_lock = FreshLock()


def default_hooks() -> Hooks:
    """The plug-in manager of this process's default runtime, made when first asked for."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Hooks()
        return _default
