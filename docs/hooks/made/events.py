"""Every kind of event, and the fields of one."""

from __future__ import annotations

import attrs

from made.declared import code, comments, sentence, table
from stockade.events import Event, EventKind

_HEAD = """\
# Events

A plug-in's hook `stockade_event` is called with each of these, in the thread in which it
happened. [Events and policies](../events-and-policies.md) shows how to write one.

## Kinds
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *kinds(), "", "## Fields", "", *fields(), ""])


def kinds() -> list[str]:
    """A table of what may have happened."""
    said = comments(EventKind)
    rows = [(code(kind.value), sentence(said[kind.name])) for kind in EventKind]
    return table(("kind", "when"), rows)


def fields() -> list[str]:
    """A table of what an event carries."""
    said = comments(Event)
    rows = [(code(field.name), sentence(said[field.name])) for field in attrs.fields(Event)]
    return table(("field", "meaning"), rows)
