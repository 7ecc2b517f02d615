"""The provider over a selected wall: it speaks the trait, and sessions are made of it (A, C)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockade.capabilities import Feature, Isolation
from stockade.config import SandboxConfig
from stockade.errors import StockadeError
from stockade.executions import _forms as requests
from stockade.results import ExecutionHandle, SandboxResult, SessionHandle, SessionStatus
from stockade.selection._alternatives import (
    PASSED_OVER,
    Alternatives,
    PassedOver,
    check_holds,
)
from stockade.selection._candidates import Candidate
from stockade.selection._discovery import InstalledPlugin, installed
from stockade.selection._selector import ProviderInfo, default_preference
from stockade.selection._spec import Preference, PreferenceLike, ProviderString
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime, default_runtime
from stockade.system.forks import FreshLock
from stockade.trait import SandboxProvider
from stockade.wall import Availability, Form, Place, Wall

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.config import ConfigOptions

__all__ = [
    "PassedOver",
    "ProviderInfo",
    "WallProvider",
    "default_preference",
    "inspect_providers",
    "installed_providers",
    "provider",
    "provider_at",
    "suitable_providers",
]

#: A logger of its own, so that a program can silence (or watch for) just this.
_isolation_log = logging.getLogger("stockade.isolation")


class WallProvider(SandboxProvider):
    """The trait over a wall; made by :func:`provider`."""

    def __init__(
        self,
        name: str,
        wall: Wall,
        config: SandboxConfig,
        runtime: Runtime,
        *,
        others: Alternatives | None = None,
    ) -> None:
        """``others``: the alternatives that are left if this one fails to start (A7)."""
        self.name = name
        self.wall = wall
        self.config = config
        self.runtime = runtime
        #: The alternative that was taken; None if the wall was given as an object.
        self.spec: ProviderString | None = None
        #: Fields that stand at the wall's own defaults, since nobody set them: of a wall that
        #: isolates nothing (``Wall.defaults``), and limits that are fixed elsewhere (B6).
        self.lowered: Mapping[str, Any] = {}
        self._others = others
        self._settled = others is None
        self._spent = False  #: all were tried in vain: the next session begins with the first
        self._settling = FreshLock() if others is not None else None

    # -- one of several (A7) -----------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether it stays with this wall: it was named alone, or a session has come up."""
        return self._settled

    def settle(self) -> None:
        """Stay with this wall from now on: a session of it has come up."""
        self._settled = True

    def go_on(self, error: StockadeError) -> bool:
        """Take the next alternative, since this one's sandbox did not start.

        False where it stays with this wall, and ``error`` is the caller's. Raises what
        :meth:`Alternatives.next` raises if none is left. Called by what opens sessions.
        """
        if self._settled or self._others is None:
            return False
        self._others.pass_over(error)
        self._take_next(self._others)
        return True

    def _take_next(self, others: Alternatives) -> None:
        self._spent = True
        self.take(others.next())
        self._spent = False

    def take(self, found: Candidate) -> None:
        """Become a provider of that wall."""
        self.name, self.wall, self.config = found.spec.name, found.wall, found.config
        self.spec, self.lowered = found.spec, found.lowered

    @property
    def passed_over(self) -> tuple[PassedOver, ...]:
        """What was not taken of several alternatives, and why (A7)."""
        return () if self._others is None else tuple(self._others.passed_over)

    def availability(self) -> Availability:
        """The checks of the wall's probe; bounded in time, never raises (A8)."""
        return self.runtime.selector.probing.look(self.name, self.wall)

    def is_available(self) -> bool:
        return bool(self.availability())

    def create_session(self, agent_id: str, config: SandboxConfig | None = None) -> SessionHandle:
        record = self.open_record(agent_id, config)
        return SessionHandle(agent_id, record.session_id, live=record.present_status)

    def open_record(self, agent_id: str, config: SandboxConfig | None = None) -> SessionRecord:
        """Create a session and return the registry's record; what sessions are made of.

        The first one of several alternatives settles which wall it is (A7).
        """
        if self._settled or self._settling is None:
            return self._opened(agent_id, config)
        with self._settling:
            if self._spent and self._others is not None:
                self._take_next(self._others)
            while True:
                try:
                    record = self._opened(agent_id, config)
                except PASSED_OVER as error:
                    if not self.go_on(error):
                        raise
                else:
                    self.settle()
                    return record

    def _opened(self, agent_id: str, config: SandboxConfig | None) -> SessionRecord:
        if config is None:
            self.report_lowered()
        return self.runtime.create(self.name, self.wall, agent_id, config or self.config)

    def report_lowered(self) -> None:
        """Log, once in a runtime, that sessions of this provider are behind no wall."""
        if (
            not self.lowered
            or self.wall.isolation is not Isolation.NONE
            or self.name in self.runtime.reported_lowered
        ):
            return
        self.runtime.reported_lowered.add(self.name)
        _isolation_log.warning(
            "%s isolates nothing: the code runs as this process does, with %s",
            self.name,
            ", ".join(f"{name}={value!r}" for name, value in self.lowered.items()),
        )

    def execute_code(
        self,
        agent_id: str,
        session_id: str,
        code: str,
        *,
        language: str | None = None,
        **request: Any,
    ) -> ExecutionHandle:
        """The shell form, or code where ``language`` is given (D1).

        ``request`` may hold what a session's ``run`` takes: timeout, env, stdin,
        working_dir, output_limit_bytes, output_policy.
        """
        record = self.runtime.registry.get(agent_id, session_id)
        form = Form.SHELL if language is None else Form.CODE
        execution = requests.start(
            self.runtime.executor,
            self.wall,
            record,
            form,
            script=code,
            language=language,
            **request,
        )
        execution.result()
        return execution.handle()

    def destroy_session(self, agent_id: str, session_id: str) -> None:
        self.runtime.destroy(self.runtime.registry.get(agent_id, session_id))

    def session_status(self, agent_id: str, session_id: str) -> SessionStatus:
        """The present state; raises SessionNotFoundError once the session is gone."""
        return self.runtime.registry.get(agent_id, session_id).status

    def run(
        self, agent_id: str, command: Sequence[str], config: SandboxConfig | None = None
    ) -> SandboxResult:
        requests.check_argv(command)
        requests.check_form(self.name, self.wall, Form.ARGV)
        record = self.open_record(agent_id, config)
        try:
            started = requests.start(
                self.runtime.executor, self.wall, record, Form.ARGV, argv=command
            )
            return started.result()
        finally:
            self.runtime.destroy(record)


def provider(
    preference: PreferenceLike | None = None,
    *,
    runtime: Runtime | None = None,
    check_available: bool = False,
    needs: Iterable[Feature | str] = (),
    **config: Unpack[ConfigOptions],
) -> WallProvider:
    """The provider that a string names, with the string's options as configuration.

    ``preference`` is one string, several in one (``a | b``) or a sequence of them; None is
    STOCKADE_PROVIDER, else ``local``. ``config`` sets further fields and overrides the
    string's options; ``needs`` are features that the wall must have. If there are
    several, the first that is available and holds what is asked is taken (A7). If the sandbox of
    its first session does not start, that goes on to the next one. A single name is probed only
    with ``check_available``. Raises ProviderStringError, ProviderNotFoundError,
    DuplicateProviderError, PluginError, ConfigError, UnsupportedError and
    ProviderUnavailableError.
    """
    wanted = default_preference() if preference is None else Preference.parse(preference)
    runtime = runtime or default_runtime()
    found, others = runtime.selector.select(
        wanted, config, check_available=check_available, needs=tuple(needs)
    )
    return _provider_of(found, runtime, others)


def _provider_of(
    found: Candidate, runtime: Runtime, others: Alternatives | None = None
) -> WallProvider:
    made = WallProvider(found.spec.name, found.wall, found.config, runtime, others=others)
    made.take(found)
    return made


def provider_at(
    string: str, place: Place | None, *, runtime: Runtime | None = None, **config: Any
) -> WallProvider:
    """The provider of a sandbox that was made at ``place``, looking there and nowhere else,
    whatever options and environment lead to by now (C9).

    None, if that was not kept: where they lead now. Raises what ``provider`` raises, and
    ProviderUnavailableError if that place cannot be looked at from here.
    """
    runtime = runtime or default_runtime()
    found, others = runtime.selector.select_at(Preference.parse(string), place, config)
    return _provider_of(found, runtime, others)


# -- listings ------------------------------------------------------------------


def installed_providers() -> list[InstalledPlugin]:
    """What is installed, from metadata alone; imports no plug-in (A3)."""
    return installed()


def inspect_providers(
    names: Sequence[str] | None = None, *, runtime: Runtime | None = None
) -> list[ProviderInfo]:
    """Load and probe the installed providers, each on its own; never raises (A6, A8)."""
    return (runtime or default_runtime()).selector.inspect(names)


def suitable_providers(
    *,
    needs: Iterable[Feature | str] = (),
    runtime: Runtime | None = None,
    **config: Unpack[ConfigOptions],
) -> tuple[str, ...]:
    """Names of installed walls that isolate, are available here and hold all that is asked.

    For the end of a message about a wall that cannot serve. Each wall is loaded and probed as
    ``inspect_providers`` does; one whose target is left out may still want one. ``needs`` and
    ``config`` are as ``stockade.open`` takes them. Raises ConfigError if a field is wrong.
    """
    fields: dict[str, Any] = {**config}
    SandboxConfig(**fields)
    wanted = tuple(needs)
    selector = (runtime or default_runtime()).selector
    found = []
    for one in selector.inspect():
        if not one.available or one.isolation in (None, str(Isolation.NONE)):
            continue
        try:
            check_holds(selector.candidates.build(ProviderString(one.name), fields), wanted)
        except StockadeError:
            continue
        found.append(one.name)
    return tuple(found)
