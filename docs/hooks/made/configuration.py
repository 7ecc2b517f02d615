"""The configuration's fields, and the options of every wall of this checkout."""

from __future__ import annotations

import importlib
import inspect
import re
from enum import Enum
from typing import Any, get_type_hints

import attrs

from made.declared import (
    ROOT,
    code,
    comments,
    paragraphs,
    sentence,
    show_checkout,
    table,
    written,
)
from stockade.capabilities import NEEDS
from stockade.config import MIB, SandboxConfig
from stockade.system.own_files import parse_toml
from stockade.values.numbers import Bounded
from stockade.values.options import as_bool, as_text
from stockade.wall import Option, Wall

_HEAD = """\
# Configuration and provider strings

<style>.md-typeset td:first-child code { white-space: nowrap; word-break: normal }</style>

A provider string is `name[:target][?option=value&option=value…]`. An option sets a field of the
configuration, or one of the wall's own. In Python, the fields are keywords of `stockade.open` and
of [SandboxConfig](api/stockade.config.md). In a string, a value is percent-encoded.

## Fields of the configuration

A wall that cannot do what a field needs refuses the session before anything starts. "Needs" names
the feature, and the value that asks for nothing.
"""
_WALLS = """\

## Options of the walls

Each wall takes the fields above, and these. `local` takes the fields alone, since it stands for the
embedded walls that are installed.
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD, *fields(), "", "### How values are written", "", *forms(), _WALLS]
    for name, wall in walls().items():
        lines += [f"### {name}", "", sentence(f"{wall.summary} (isolation: {isolation(wall)})"), ""]
        lines += options(wall) if wall.options else ["It has no options of its own."]
        lines.append("")
    return "\n".join(lines)


def fields() -> list[str]:
    """A table of the fields, each with its unit, default, bounds and the feature it needs."""
    said, types = comments(SandboxConfig), get_type_hints(SandboxConfig)
    rows = [
        (
            code(field.name),
            default(field),
            allowed(field, types[field.name]),
            needed(field.name),
            said[field.name],
        )
        for field in attrs.fields(SandboxConfig)
    ]
    return table(("field", "default", "allowed", "needs", "meaning"), rows)


def default(field: attrs.Attribute[Any]) -> str:
    """The default as people write it, with its unit."""
    stated: Any = field.default
    value = stated.factory() if hasattr(stated, "factory") else stated
    text, counts = written(value), unit(field)
    if counts == "bytes":
        counts += f" ({value / MIB:,.12g} MiB)"
    return f"{code(text) or 'empty'} {counts if text != 'none' else ''}".strip()


def unit(field: attrs.Attribute[Any]) -> str:
    """What a number counts; empty where it is none."""
    return str(field.metadata.get("unit", ""))


def allowed(field: attrs.Attribute[Any], annotation: Any) -> str:
    """Bounds of a number, members of an enumeration; else how it is written."""
    validators = getattr(field.validator, "_validators", (field.validator,))
    for one in validators:
        if isinstance(one, Bounded):
            return f"{one.low:,.12g} to {one.high:,.12g}{', or `none`' if one.optional else ''}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(code(str(member)) for member in annotation)
    convert = field.metadata["convert"]
    if convert is as_text:
        return "text" if annotation is str else "text, or `none`"
    return "`true` or `false`" if convert is as_bool else form(convert)


def form(convert: Any) -> str:
    """How a value is written in a string, in the words of what reads it."""
    if not inspect.getdoc(convert):
        return ""
    said = paragraphs(convert)[0].partition(". ")[0].rstrip(".").replace("``", "`")
    return re.sub(r"^(`[^`]+`) to [^;]*", r"\1", said)


def forms() -> list[str]:
    """A list of the converters, each with the fields that it reads."""
    by_form: dict[str, list[str]] = {}
    for field in attrs.fields(SandboxConfig):
        by_form.setdefault(form(field.metadata["convert"]), []).append(code(field.name))
    return [f"- {sentence(how)} For {', '.join(names)}." for how, names in by_form.items()]


def needed(name: str) -> str:
    """The feature that a field asks for, and the value that asks for none."""
    found = [need for need in NEEDS if need.field == name]
    return "; ".join(
        f"{code(str(need.feature))}, unless {code(written(need.lifted)) or 'empty'}"
        for need in found
    )


# -- walls ---------------------------------------------------------------------------------


def walls() -> dict[str, type[Wall]]:
    """Every wall of this checkout by its entry point's name, from its own plug-in."""
    show_checkout()
    found = {}
    for path in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        project = parse_toml(path, path.read_bytes(), "see git")["project"]
        group = project.get("entry-points", {}).get("stockade.providers", {})
        for name, module in group.items():
            found[name] = importlib.import_module(module).stockade_wall()
    return found


def isolation(wall: type[Wall]) -> str:
    """What stands between code and host; a wall may only know it when it is made."""
    value: object = wall.isolation
    return "what serves it decides" if isinstance(value, property) else str(value)


def options(wall: type[Wall]) -> list[str]:
    """A table of a wall's own options."""
    rows = [
        (code(name), standard(option), form_of(option), sentence(option.help))
        for name, option in wall.options.items()
    ]
    return table(("option", "default", "allowed", "meaning"), rows)


def standard(option: Option) -> str:
    """An option's default."""
    return (code(written(option.default)) or "empty") if option.default is not None else "none"


def form_of(option: Option) -> str:
    """How an option's value is written, where what reads it says so."""
    kinds = {str: "text", int: "a whole number", float: "a number"}
    if option.convert in kinds:
        return kinds[option.convert]
    how = form(option.convert)
    return f"{how} (a secret: never shown)" if option.secret else how
