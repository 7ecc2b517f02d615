"""What holds for a whole process: limits on sessions, the queue before them, retries.

The default runtime reads it from the environment; ``stockade.configure`` changes it,
and a runtime of one's own takes it as an argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from stockade.errors import ConfigError
from stockade.values.numbers import bounded
from stockade.values.options import as_float, as_int, nearest

__all__ = ["Settings"]

_DAY = 86_400.0
_PREFIX = "STOCKADE_"


@attrs.frozen(kw_only=True)
class Settings:
    """Immutable, and checked when built: ConfigError names the field and what is allowed."""

    #: Sessions that the process may have at one time, those of pools and those being
    #: started or ended included; None: as many as the machine bears.
    max_sessions: int | None = attrs.field(
        default=None, validator=bounded(1, 1_000_000, whole=True, optional=True)
    )
    #: Sessions that one agent may have at one time.
    max_sessions_per_agent: int | None = attrs.field(
        default=None, validator=bounded(1, 1_000_000, whole=True, optional=True)
    )
    #: Seconds that an opening waits for its turn where a limit is reached, first come,
    #: first served; 0: none waits, CapacityError comes at once.
    queue_seconds: float = attrs.field(default=0.0, validator=bounded(0, _DAY))
    #: Openings that may wait at one time; the next gets CapacityError at once.
    max_waiting: int | None = attrs.field(
        default=None, validator=bounded(1, 1_000_000, whole=True, optional=True)
    )
    #: How often an opening or a probe that failed before anything began is tried again.
    start_retries: int = attrs.field(default=2, validator=bounded(0, 20, whole=True))
    #: Seconds that the end of the interpreter, or SIGTERM, waits for sessions to end.
    shutdown_seconds: float = attrs.field(default=30.0, validator=bounded(0, _DAY))

    def with_(self, **changes: Any) -> Settings:
        """A copy with some fields changed, checked anew; an unknown field is a ConfigError."""
        known = attrs.fields_dict(Settings)
        for name in changes:
            if name not in known:
                raise ConfigError(
                    f"there is no setting {name!r}{nearest(name, known)}; the settings are "
                    f"{', '.join(known)}."
                )
        return attrs.evolve(self, **changes)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """From STOCKADE_MAX_SESSIONS and so on, each named as its field; ``none`` is None."""
        environment = os.environ if environment is None else environment
        found: dict[str, Any] = {}
        for field in attrs.fields(cls):
            variable = _PREFIX + field.name.upper()
            text = environment.get(variable, "")
            if not text:
                continue
            convert = as_float if field.name.endswith("seconds") else as_int
            try:
                found[field.name] = convert(text)
                attrs.evolve(cls(), **{field.name: found[field.name]})
            except ValueError as error:  # a ConfigError is one
                raise ConfigError(
                    f"the environment variable {variable}={text!r:.40} is not allowed: {error}"
                ) from None
        return cls(**found)
