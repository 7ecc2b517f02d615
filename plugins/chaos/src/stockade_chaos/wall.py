"""The provider ``chaos:PROVIDER``: any other provider, with faults at stated rates."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import attrs

import stockade
from stockade.capabilities import Capabilities
from stockade.config import SandboxConfig
from stockade.errors import ConfigError, SandboxStartError
from stockade.values.options import as_int
from stockade.wall import (
    AttachRequest,
    Availability,
    Check,
    Leftover,
    OpenRequest,
    Option,
    Place,
    Usage,
    Wall,
)
from stockade_chaos.faults import Dice, next_session, to_rate, to_seconds
from stockade_chaos.sandbox import ChaosSandbox

__all__ = ["ChaosWall"]

_Request = TypeVar("_Request", bound=OpenRequest)


class ChaosWall(Wall):
    """Another wall, which the target names, and whose sandboxes meet faults."""

    summary = "any provider, with faults at stated rates: for tests of applications"
    options: ClassVar[Mapping[str, Option]] = {
        "death_rate": Option(to_rate, 0.0, "the share of executions that SIGKILL ends"),
        "loss_rate": Option(to_rate, 0.0, "the share of executions that lose the sandbox"),
        "delay_rate": Option(to_rate, 0.0, "the share of executions that start late"),
        "delay_seconds": Option(to_seconds, 1.0, "how late they start"),
        "start_failure_rate": Option(to_rate, 0.0, "the share of sandboxes that do not start"),
        "within_seconds": Option(
            to_seconds, 0.1, "a death or a loss comes this soon after a start"
        ),
        "seed": Option(as_int, None, "the same number gives the same faults; else it is drawn"),
    }

    def __init__(self, target: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(target, options)
        seed = self.chosen["seed"]
        self._seed: int = random.SystemRandom().getrandbits(32) if seed is None else seed
        self._inner = None if target is None else self._selected(target)
        if self._inner is not None:
            self.isolation = self._inner.isolation

    def _selected(self, target: str) -> Wall:
        """The wall of the provider that the target names. Raises what selecting it raises."""
        if "|" in target:
            raise ConfigError(
                "chaos is over one provider; write an alternative of its own for each: "
                "chaos:docker | chaos:landlock."
            )
        provider = stockade.provider(target)
        spec = provider.spec
        assert spec is not None  # it was selected by a string
        for name in spec.options:
            option = provider.wall.options.get(name)
            if option is None:
                raise ConfigError(
                    f"{name} is the session's: write it behind chaos' own '?', as in "
                    f"chaos:{spec.label}?{name}=…."
                )
            if option.secret or _has_password(spec.options[name]):
                raise ConfigError(
                    f"{name} holds a secret, and chaos' target is shown in messages; give it to "
                    f"{spec.name} by the environment."
                )
        if target == "local":
            self.target = spec.label  # a later process must find the same wall
        return provider.wall

    @property
    def inner(self) -> Wall:
        """The wall that meets the faults; ConfigError where none is named."""
        if self._inner is None:
            raise ConfigError("chaos names no provider: write chaos:PROVIDER.")
        return self._inner

    # -- what it says of itself is what the other says ---------------------------

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return Capabilities() if self._inner is None else self._inner.capabilities

    @property
    def defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {} if self._inner is None else self._inner.defaults

    @property
    def fixed_elsewhere(self) -> Collection[str]:  # type: ignore[override]
        return () if self._inner is None else self._inner.fixed_elsewhere

    @property
    def prepare_seconds(self) -> float:  # type: ignore[override]
        return 0.0 if self._inner is None else self._inner.prepare_seconds

    def warning(self, config: SandboxConfig) -> str:
        return "" if self._inner is None else self._inner.warning(config)

    def has_own_loopback(self, config: SandboxConfig) -> bool:
        return self._inner is not None and self._inner.has_own_loopback(config)

    def probe(self) -> Availability:
        if self._inner is None:
            remedy = "chaos:PROVIDER, such as chaos:landlock"
            return Availability((Check("provider", False, "none is named", remedy),))
        return self._inner.probe()

    # -- sandboxes ---------------------------------------------------------------

    def prepare(self, request: OpenRequest) -> None:
        self.inner.prepare(self._passed(request))

    def open(self, request: OpenRequest) -> ChaosSandbox:
        inner, dice = self.inner, self._dice()
        if dice.start_fails():
            raise SandboxStartError(
                f"chaos lets this sandbox not start ({dice.words()}); try again."
            )
        return ChaosSandbox(inner.open(self._passed(request)), dice)

    def attach(self, request: AttachRequest) -> ChaosSandbox:
        return ChaosSandbox(self.inner.attach(self._passed(request)), self._dice())

    def _dice(self) -> Dice:
        string = (self.target, self._seed, tuple(sorted(self.texts.items())))
        return Dice(seed=self._seed, session=next_session(string), options=self.chosen)

    def _passed(self, request: _Request) -> _Request:
        """The request as the other wall would get it from core."""
        return attrs.evolve(request, target=self.inner.target, options=self.inner.chosen)

    # -- what outlives a process ---------------------------------------------------

    def place(self) -> Place:
        return self.inner.place()

    def look_at(self, place: Place) -> None:
        self.inner.look_at(place)

    def leftovers(self) -> Sequence[Leftover]:
        return self.inner.leftovers()

    def remove(self, leftover: Leftover) -> None:
        self.inner.remove(leftover)

    def usage(self, leftover: Leftover) -> Usage | None:
        return self.inner.usage(leftover)


def _has_password(text: str) -> bool:
    try:
        return urlsplit(text).password is not None
    except ValueError:
        return True  # whatever it is, it is not shown
