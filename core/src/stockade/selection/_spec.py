"""The provider string, and several of them in an order of preference (A1, A7).

One is ``name[:target][?option=value[&option=value…]]``; alternatives are separated by ``|``,
each of them whole: ``gvisor:python:3.12-slim?memory_mb=256 | bubblewrap``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Union
from urllib.parse import quote, unquote_to_bytes

import attrs

from stockade.config import SandboxConfig
from stockade.errors import ConfigError, ProviderStringError
from stockade.values.options import nearest, render
from stockade.wall import Option, Wall

__all__ = ["Preference", "PreferenceLike", "ProviderString", "recipe", "split_options"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_PASSWORD = re.compile(r"(://[^/@:]*):[^/@]*(@)")
_FORM = "write name[:target][?option=value&option=value], such as docker:python:3.12-slim"
#: Kept readable when rendered. Other ASCII punctuation is percent-encoded.
_TARGET_SAFE = ":/@+,=~!$()*;[]"
_VALUE_SAFE = ":/@+,=~!$()*;[]?"


def _decode(text: str, what: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ProviderStringError(f"{what} has a '%' that encodes nothing; write '%25' for one.")
    try:
        decoded = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise ProviderStringError(f"{what} does not decode to UTF-8; encode it as UTF-8.") from None
    if "\0" in decoded:
        raise ProviderStringError(f"{what} holds NUL, which nothing can use; remove '%00'.")
    return decoded


def _options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        name = _decode(name, "an option's name")
        if not name or not equals:
            raise ProviderStringError(
                f"option {name!r} has no {'value' if name else 'name'}; write option=value."
            )
        if name in options:
            raise ProviderStringError(f"option {name!r} is given twice; give it once.")
        options[name] = _decode(value, f"the value of option {name!r}")
    return options


@attrs.frozen
class ProviderString:
    """A parsed provider string; ``str()`` renders it, and both round-trip.

    Values of options stay text here: which options there are is known only
    once the plug-in is loaded (see :func:`split_options`).
    """

    name: str
    target: str | None = None
    #: Values never show in a repr, since one may be a secret (B4).
    options: Mapping[str, str] = attrs.field(factory=dict, repr=lambda o: f"<{', '.join(o)}>")

    @classmethod
    def parse(cls, text: str) -> ProviderString:
        """Read one alternative; raises ProviderStringError that says what is wrong."""
        if not isinstance(text, str):
            raise ProviderStringError(f"a provider string is text, not {type(text).__name__}.")
        if "|" in text:
            raise ProviderStringError(
                "'|' separates alternatives, and one is expected here; write '%7C' for one inside."
            )
        head, question, query = text.partition("?")
        name, colon, target = head.partition(":")
        if not _NAME.fullmatch(name):
            order = f"; alternatives are written {name.replace(',', ' | ')}" if "," in name else ""
            raise ProviderStringError(f"{name!r} is not a provider's name: {_FORM}{order}.")
        if colon and not target:
            raise ProviderStringError(f"the target after {name!r} is empty: {_FORM}.")
        if question and not query:
            raise ProviderStringError(f"there is no option after '?': {_FORM}.")
        return cls(
            name,
            _decode(target, "the target") if colon else None,
            _options(query) if question else {},
        )

    def __str__(self) -> str:
        text = self.label
        if self.options:
            text += "?" + "&".join(
                f"{quote(name, safe='')}={quote(value, safe=_VALUE_SAFE)}"
                for name, value in self.options.items()
            )
        return text

    @property
    def label(self) -> str:
        """Name and target, for messages; not the options, since a value may be a secret (B4)."""
        if self.target is None:
            return self.name
        return f"{self.name}:{quote(self.target, safe=_TARGET_SAFE)}"

    @classmethod
    def of(
        cls, name: str, target: str | None = None, config: SandboxConfig | None = None
    ) -> ProviderString:
        """The string whose options set what differs from the defaults in ``config``."""
        plain = SandboxConfig()
        options = {
            field.name: render(getattr(config, field.name))
            for field in attrs.fields(SandboxConfig)
            if config is not None and getattr(config, field.name) != getattr(plain, field.name)
        }
        return cls(name, target, options)


#: What selects a provider: one string, several in one (``|``), or a sequence of them.
PreferenceLike = Union[str, ProviderString, "Preference", Sequence[str | ProviderString]]


@attrs.frozen
class Preference:
    """Provider strings in the order in which they are tried (A7); one at least.

    ``str()`` renders it, and both round-trip.
    """

    alternatives: tuple[ProviderString, ...]
    #: Who chose them, for messages: "-p", "STOCKADE_PROVIDER", a file's path; empty for a program.
    source: str = attrs.field(default="", eq=False, kw_only=True)
    #: They stand in a file whose author may be hostile, so they choose a wall and tighten its
    #: limits, and do nothing else.
    restricted: bool = attrs.field(default=False, eq=False, kw_only=True)

    @classmethod
    def parse(
        cls, given: PreferenceLike, *, source: str = "", restricted: bool = False
    ) -> Preference:
        """Read what a caller gave; raises ProviderStringError that says what is wrong.

        Called wherever a provider is selected. A :class:`Preference` is returned as it is.
        """
        if isinstance(given, Preference):
            return given
        if isinstance(given, (str, ProviderString)):
            given = (given,)
        if not isinstance(given, Sequence):
            raise ProviderStringError(
                f"a provider is text or a sequence of texts, not {type(given).__name__}."
            )
        found: list[ProviderString] = []
        for part in given:
            found += [part] if isinstance(part, ProviderString) else _alternatives(part)
        if not found:
            raise ProviderStringError(f"no provider is named: {_FORM}.")
        for spec in found:
            if found.count(spec) > 1:
                raise ProviderStringError(f"{spec.label!r} stands there twice; name it once.")
        return cls(tuple(found), source=source, restricted=restricted)

    def __str__(self) -> str:
        return " | ".join(map(str, self.alternatives))

    @property
    def label(self) -> str:
        """Names and targets, for messages; not the options (B4)."""
        return " | ".join(spec.label for spec in self.alternatives)


def _alternatives(text: object) -> list[ProviderString]:
    if not isinstance(text, str):
        raise ProviderStringError(f"a provider string is text, not {type(text).__name__}.")
    return [ProviderString.parse(part.strip(" \t\r\n")) for part in text.split("|")]


def recipe(name: str, wall: Wall, config: SandboxConfig) -> str:
    """The provider string that opens a session like one of these, without secrets (B4).

    Environment values are left out, as are options that their wall calls secret and
    passwords in URLs. Of ``secrets`` it has where they are, never what; one that comes from a
    callable is left out.
    """
    kept = tuple(secret for secret in config.secrets if not callable(secret.source))
    spec = ProviderString.of(name, wall.target, config.with_(env_vars={}, secrets=kept))
    own = {
        option: _PASSWORD.sub(r"\1\2", text)
        for option, text in wall.texts.items()
        if not wall.options[option].secret
    }
    return str(attrs.evolve(spec, options={**spec.options, **own}))


def split_options(
    spec: ProviderString, own: Mapping[str, Option]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert the options: (fields of the configuration, the wall's own) (A2).

    Raises ProviderStringError that names an unknown option with the nearest
    known one, or a value that does not convert.
    """
    fields = attrs.fields_dict(SandboxConfig)
    changes: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for name, text in spec.options.items():
        if name in own:
            chosen[name] = _convert(name, text, own[name].convert)
        elif name in fields:
            changes[name] = _convert(name, text, fields[name].metadata["convert"])
        else:
            known = sorted([*fields, *own])
            raise ProviderStringError(
                f"{spec.name} has no option {name!r}{nearest(name, known)}; "
                f"the options are {', '.join(known)}."
            )
    return changes, chosen


def _convert(name: str, text: str, convert: Any) -> Any:
    try:
        return convert(text)
    except ConfigError:
        raise
    except ValueError as error:
        # They may hold values of secrets: they are not repeated (B4).
        shown = "its value" if name in ("env_vars", "secrets") else repr(text)
        raise ProviderStringError(f"option {name!r}: {shown} does not convert: {error}.") from None
