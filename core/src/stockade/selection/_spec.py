"""The provider string: ``name[,name…][:target][?option=value[&option=value…]]`` (A1, A7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import attrs

from stockade.config import SandboxConfig
from stockade.errors import ConfigError, ProviderStringError
from stockade.values.options import nearest, render
from stockade.wall import Option, Wall

__all__ = ["ProviderString", "recipe", "split_options"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_PASSWORD = re.compile(r"(://[^/@:]*):[^/@]*(@)")
_FORM = "write name[:target][?option=value&option=value], such as docker:python:3.12-slim"
#: Kept readable when rendered; all else of ASCII punctuation is percent-encoded.
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

    names: tuple[str, ...]
    target: str | None = None
    #: Values never show in a repr, since one may be a secret (B4).
    options: Mapping[str, str] = attrs.field(factory=dict, repr=lambda o: f"<{', '.join(o)}>")

    @classmethod
    def parse(cls, text: str) -> ProviderString:
        """Read a string; raises ProviderStringError that says what is wrong."""
        if not isinstance(text, str):
            raise ProviderStringError(f"a provider string is text, not {type(text).__name__}.")
        head, question, query = text.partition("?")
        listed, colon, target = head.partition(":")
        names = tuple(listed.split(","))
        for name in names:
            if not _NAME.fullmatch(name):
                raise ProviderStringError(f"{name!r} is not a provider's name: {_FORM}.")
        if len(set(names)) != len(names):
            raise ProviderStringError(f"{listed!r} names one provider twice; name each once.")
        if colon and not target:
            raise ProviderStringError(f"the target after {listed!r} is empty: {_FORM}.")
        if question and not query:
            raise ProviderStringError(f"there is no option after '?': {_FORM}.")
        return cls(
            names,
            _decode(target, "the target") if colon else None,
            _options(query) if question else {},
        )

    def __str__(self) -> str:
        text = ",".join(self.names)
        if self.target is not None:
            text += ":" + quote(self.target, safe=_TARGET_SAFE)
        if self.options:
            text += "?" + "&".join(
                f"{quote(name, safe='')}={quote(value, safe=_VALUE_SAFE)}"
                for name, value in self.options.items()
            )
        return text

    def one(self, name: str) -> ProviderString:
        """The same string with ``name`` alone, for a member of an order of preference."""
        return attrs.evolve(self, names=(name,))

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
        return cls((name,), target, options)


def recipe(name: str, wall: Wall, config: SandboxConfig) -> str:
    """The provider string that opens a session like one of these, without secrets (B4).

    Environment values are left out, as are options that their wall calls secret and
    passwords in URLs.
    """
    spec = ProviderString.of(name, wall.target, config.with_(env_vars={}))
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
                f"{spec.names[0]} has no option {name!r}{nearest(name, known)}; "
                f"the options are {', '.join(known)}."
            )
    return changes, chosen


def _convert(name: str, text: str, convert: Any) -> Any:
    try:
        return convert(text)
    except ConfigError:
        raise
    except ValueError as error:
        # Environment values may be secrets: they are not repeated (B4).
        shown = "its value" if name == "env_vars" else repr(text)
        raise ProviderStringError(f"option {name!r}: {shown} does not convert: {error}.") from None
