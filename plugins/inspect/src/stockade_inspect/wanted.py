"""One sandbox that a sample is to get, and the provider string that opens it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import attrs

import stockade
from stockade.errors import ConfigError, UnsupportedError

__all__ = ["Build", "Wanted", "names_in", "only"]

#: Of sessions that state none: samples take as long as their model takes.
_LIFETIME = "lifetime_seconds=none"


@attrs.frozen
class Build:
    """An image that is made of a Dockerfile."""

    context: str  #: the folder that the engine is sent
    dockerfile: str  #: in that folder


@attrs.frozen(kw_only=True)
class Wanted:
    """What ``stockade.open`` is asked for."""

    name: str = "default"  #: as the task calls it
    provider: str = ""  #: a provider string; empty where nobody named one
    image: str | None = None  #: what the wall is to run, in place of the string's target
    build: Build | None = None  #: what that image is made of
    fields: Mapping[str, Any] = attrs.field(factory=dict, repr=False)  #: of the configuration
    notes: tuple[str, ...] = ()  #: what a user has to know of it

    @property
    def preference(self) -> str:
        """The string with all that nobody named. Raises UnsupportedError, and what selecting
        raises, where a wall of it runs no image and one is wanted."""
        usual = "docker" if self.image or self.build else "local"
        text = self.provider or os.environ.get("STOCKADE_PROVIDER") or usual
        return " | ".join(self._whole(part.strip()) for part in text.split("|"))

    def _whole(self, text: str) -> str:
        head, _, options = text.partition("?")
        if self.image:
            head = f"{_runs_images(head.partition(':')[0])}:{quote(self.image, safe=':/@+')}"
        if not any(one.startswith("lifetime_seconds=") for one in options.split("&")):
            options = f"{options}&{_LIFETIME}" if options else _LIFETIME
        return f"{head}?{options}"


def _runs_images(name: str) -> str:
    if name == "local" or not stockade.provider(name).wall.target_is_name:
        raise UnsupportedError(
            f"{name} runs no image, and the task's file wants one: take a wall that does "
            "(--sandbox stockade-docker, stockade-gvisor), or name none in the file."
        )
    return name


def names_in(text: str) -> list[str]:
    """The names of a string's walls. Raises ProviderStringError."""
    from stockade.selection._spec import Preference

    return [one.name for one in Preference.parse(text).alternatives] if text else []


def only(text: str, wall: str) -> str:
    """The string, where it names no other wall than the type does; the wall where it is empty."""
    others = [name for name in names_in(text) if wall and name != wall]
    if others:
        raise ConfigError(
            f"the sandbox type is stockade-{wall} and its configuration names {others[0]}: take "
            "the type stockade, or name the same wall."
        )
    return text or wall
