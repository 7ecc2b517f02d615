"""From a provider string to a provider: select, check, and speak the trait (A, C)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.errors import ConfigError, PluginError, ProviderUnavailableError, StockadeError
from stockade.executions import _forms as requests
from stockade.results import ExecutionHandle, SandboxResult, SessionHandle, SessionStatus
from stockade.selection._discovery import InstalledPlugin, installed
from stockade.selection._spec import ProviderString, split_options
from stockade.sessions._registry import SessionRecord
from stockade.sessions._runtime import Runtime, default_runtime
from stockade.system.retries import pauses
from stockade.system.threads import bounded
from stockade.trait import SandboxProvider
from stockade.values.shown import named
from stockade.wall import Availability, Check, Form, Place, Wall

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stockade.config import ConfigOptions

__all__ = [
    "PROBE_SECONDS",
    "ProviderInfo",
    "WallProvider",
    "inspect_providers",
    "installed_providers",
    "provider",
    "provider_at",
]

_log = logging.getLogger(__name__)
#: A logger of its own, so that a program can silence (or watch for) just this.
_isolation_log = logging.getLogger("stockade.isolation")

#: How long a wall may take to say whether it is available (A8).
PROBE_SECONDS = 15.0
#: How long a yes is believed, so that opening many sessions does not probe each time.
PROBE_KEPT_SECONDS = 10.0


class WallProvider(SandboxProvider):
    """The trait over a wall; made by :func:`provider`."""

    def __init__(self, name: str, wall: Wall, config: SandboxConfig, runtime: Runtime) -> None:
        self.name = name
        self.wall = wall
        self.config = config
        self.runtime = runtime
        #: What an order of preference passed over, and why (A7).
        self.passed_over: tuple[tuple[str, str], ...] = ()
        #: Fields that stand at the wall's own, weaker defaults, since nobody set them: only
        #: ever of a wall that isolates nothing (``Wall.defaults``).
        self.lowered: Mapping[str, Any] = {}

    def availability(self) -> Availability:
        """The checks of the wall's probe; bounded in time, never raises (A8)."""
        try:
            answer: object = bounded(self.runtime.workers, self.wall.probe, PROBE_SECONDS)
        except TimeoutError:
            return _no(f"no answer within {PROBE_SECONDS:g} s")
        except Exception as error:
            _log.info("the probe of %s failed", self.name, exc_info=True)
            return _no(named(error))
        if not isinstance(answer, Availability):
            return _no(f"it returned {answer!r}, not an Availability: report it to its author")
        return answer

    def is_available(self) -> bool:
        return bool(self.availability())

    def create_session(self, agent_id: str, config: SandboxConfig | None = None) -> SessionHandle:
        record = self.open_record(agent_id, config)
        return SessionHandle(agent_id, record.session_id, live=record.present_status)

    def open_record(self, agent_id: str, config: SandboxConfig | None = None) -> SessionRecord:
        """Create a session and return the registry's record; what sessions are made of."""
        if config is None:
            self.tell_lowered()
        return self.runtime.create(self.name, self.wall, agent_id, config or self.config)

    def tell_lowered(self) -> None:
        """Log, once in a runtime, that sessions of this provider are behind no wall."""
        if not self.lowered or self.name in self.runtime.told_lowered:
            return
        self.runtime.told_lowered.add(self.name)
        _isolation_log.warning(
            "%s isolates nothing: the code runs as this process does, with %s",
            self.name, ", ".join(f"{name}={value!r}" for name, value in self.lowered.items()),
        )  # fmt: skip

    def execute_code(
        self, agent_id: str, session_id: str, code: str, *, language: str | None = None,
        **request: Any,
    ) -> ExecutionHandle:  # fmt: skip
        """The shell form, or code where ``language`` is given (D1).

        ``request`` may hold what a session's ``run`` takes: timeout, env, stdin,
        working_dir, output_limit_bytes, output_policy.
        """
        record = self.runtime.registry.get(agent_id, session_id)
        form = Form.SHELL if language is None else Form.CODE
        execution = requests.start(
            self.runtime, self.wall, record, form, script=code, language=language, **request
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
            started = requests.start(self.runtime, self.wall, record, Form.ARGV, argv=command)
            return started.result()
        finally:
            self.runtime.destroy(record)


def _no(detail: str) -> Availability:
    return Availability((Check("probe", False, detail),))


def provider(
    string: str | ProviderString,
    *,
    runtime: Runtime | None = None,
    check_available: bool = False,
    **config: Unpack[ConfigOptions],
) -> WallProvider:
    """The provider that a string names, with the string's options as configuration.

    ``config`` sets further fields and stands over the string's options. Of an
    order of preference the first that is available is taken (A7); a single
    name is probed only with ``check_available``. Raises ProviderStringError,
    ProviderNotFoundError, DuplicateProviderError, PluginError, ConfigError and
    ProviderUnavailableError.
    """
    spec = string if isinstance(string, ProviderString) else ProviderString.parse(string)
    runtime = runtime or default_runtime()
    if len(spec.names) == 1:
        chosen = _build(spec, runtime, config)
        if check_available:
            _require(chosen)
        return chosen
    return _first_available(spec, runtime, config)


def provider_at(
    string: str, place: Place | None, *, runtime: Runtime | None = None, **config: Any
) -> WallProvider:
    """The provider of a sandbox that was made at ``place``, looking there and nowhere else,
    whatever options and environment lead to by now (C9).

    None, where that was not kept: where they lead now. Raises what ``provider`` raises, and
    ProviderUnavailableError where that place cannot be looked at from here.
    """
    chosen = provider(string, runtime=runtime, **config)
    if place is None:
        return chosen
    if place.elsewhere:
        raise ProviderUnavailableError(
            f"the sandbox lives on another machine, at {place.word or 'one place there'!r}; go on "
            "there."
        )
    try:
        bounded(chosen.runtime.workers, lambda: chosen.wall.look_at(place), PROBE_SECONDS)
    except StockadeError:
        raise
    except Exception as error:
        raise ProviderUnavailableError(
            f"{chosen.name} cannot look at {place.word!r}: {named(error)}"
        ) from error
    return chosen


def _build(
    spec: ProviderString, runtime: Runtime, config: Mapping[str, Any], *, alone: bool = True
) -> WallProvider:
    """``alone``: it was named by itself, not in an order of preference."""
    (name,) = spec.names
    wall_class = runtime.walls.load(name)
    changes, options = split_options(spec, wall_class.options)
    asked = {**changes, **config}
    try:
        wall = bounded(runtime.workers, lambda: wall_class(spec.target, options), PROBE_SECONDS)
        _check_declared(name, wall)
        wall.texts = {option: spec.options[option] for option in options}
    except StockadeError:
        raise
    except Exception as error:
        raise PluginError(f"provider {name!r} cannot be set up: {named(error)}") from error
    # Of a list nobody falls from a wall to none because an engine is down: there the
    # trait's defaults stand, which a wall that isolates nothing cannot hold (A7).
    lowered = {k: v for k, v in _defaults(name, wall).items() if alone and k not in asked}
    chosen = WallProvider(name, wall, SandboxConfig().with_(**{**lowered, **asked}), runtime)
    chosen.lowered = lowered
    return chosen


def _check_declared(name: str, wall: Wall) -> None:
    """Raise PluginError or TypeError where the wall's own words about itself are wrong."""
    try:
        have, isolation = wall.capabilities, wall.isolation
    except ConfigError as error:
        raise PluginError(
            f"provider {name!r} states its capabilities wrongly: {error} Its author must mend them."
        ) from error
    if not isinstance(have, Capabilities):
        raise TypeError(f"its capabilities are {have!r:.80}, not a Capabilities")
    if not isinstance(isolation, Isolation):
        raise TypeError(f"its isolation is {isolation!r:.80}, not an Isolation")


def _defaults(name: str, wall: Wall) -> Mapping[str, Any]:
    """The wall's own defaults, where it may have any (B1)."""
    if not wall.defaults:
        return {}
    if wall.isolation is not Isolation.NONE:
        raise PluginError(
            f"provider {name!r} says that it isolates ({wall.isolation}) and still lowers the "
            f"defaults of {', '.join(wall.defaults)}; its author must remove Wall.defaults, and "
            "core refuses what the wall cannot hold."
        )
    try:
        SandboxConfig().with_(**wall.defaults)
    except StockadeError as error:
        raise PluginError(
            f"provider {name!r}: its Wall.defaults are wrong: {error} Its author must mend them."
        ) from error
    return wall.defaults


def _require(chosen: WallProvider) -> None:
    """Probe unless the same wall was seen available a moment ago; a no is never kept, but
    for those who ask while it is being found out."""
    runtime = chosen.runtime
    key = (chosen.name, type(chosen.wall), chosen.wall.target, repr(chosen.wall.chosen))
    with runtime.probing_lock:
        if time.monotonic() - runtime.seen_available.get(key, -math.inf) < PROBE_KEPT_SECONDS:
            return
        asking = runtime.probing.get(key)
        if asking is None:
            # Not in this thread: an interrupt of it is no answer for who waits for the same.
            asking = runtime.workers.submit(lambda: _ask(chosen, key))
            runtime.probing[key] = asking
    answer = asking.result()
    if not answer:
        raise ProviderUnavailableError(
            f"{chosen.name} is not available: {answer.reason}. See `stockade doctor {chosen.name}`."
        )


def _ask(chosen: WallProvider, key: object) -> Availability:
    """Probe for all that wait for the answer."""
    runtime = chosen.runtime
    answer: Availability | None = None
    try:
        answer = _patient(chosen)
        return answer
    finally:
        with runtime.probing_lock:
            if answer:
                runtime.seen_available[key] = time.monotonic()
            del runtime.probing[key]


def _patient(chosen: WallProvider) -> Availability:
    """The answer, asked for again where the wall says that a no may soon be a yes."""
    answer = chosen.availability()
    for pause in pauses(chosen.runtime.settings.start_retries):
        if not answer.transient:
            break
        time.sleep(pause)
        answer = chosen.availability()
    return answer


def _first_available(
    spec: ProviderString, runtime: Runtime, config: Mapping[str, Any]
) -> WallProvider:
    passed: list[tuple[str, str]] = []
    for name in spec.names:
        try:
            candidate = _build(spec.one(name), runtime, config, alone=False)
            _require(candidate)
        except (PluginError, LookupError, ProviderUnavailableError) as error:
            passed.append((name, str(error)))
            continue
        candidate.passed_over = tuple(passed)
        for other, why in passed:
            _log.warning("%s is used; passed over %s: %s", name, other, why)
        return candidate
    told = " ".join(f"[{name}] {why}" for name, why in passed)
    raise ProviderUnavailableError(f"none of {', '.join(spec.names)} is available: {told}")


# -- listings ------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ProviderInfo:
    """One installed provider, looked at: for ``stockade providers`` and ``doctor``."""

    name: str
    distribution: str
    version: str
    isolation: str | None = None
    summary: str = ""
    available: bool = False
    broken: bool = False  #: it cannot be loaded at all (A5, A6)
    reason: str = ""  #: why it is not available, or broken
    availability: Availability | None = None


def installed_providers() -> list[InstalledPlugin]:
    """What is installed, from metadata alone; imports no plug-in (A3)."""
    return installed()


def inspect_providers(
    names: Sequence[str] | None = None, *, runtime: Runtime | None = None
) -> list[ProviderInfo]:
    """Load and probe the installed providers, each on its own; never raises (A6, A8)."""
    runtime = runtime or default_runtime()
    return [
        _inspect(found, runtime) for found in installed() if names is None or found.name in names
    ]


def _inspect(found: InstalledPlugin, runtime: Runtime) -> ProviderInfo:
    info = ProviderInfo(name=found.name, distribution=found.distribution, version=found.version)
    try:
        chosen = _build(ProviderString((found.name,)), runtime, {})
    except StockadeError as error:
        return attrs.evolve(info, broken=True, reason=str(error))
    answer = chosen.availability()
    return attrs.evolve(
        info,
        isolation=str(chosen.wall.isolation),
        summary=chosen.wall.summary,
        available=bool(answer),
        reason=answer.reason,
        availability=answer,
    )
