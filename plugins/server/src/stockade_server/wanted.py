"""What a caller asks for when a sandbox is made."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from stockade import Snapshot
from stockade_server.network import Rules

__all__ = ["DEFAULT_SECONDS", "Wanted"]

DEFAULT_SECONDS = 300  #: How long a sandbox lasts whose caller says nothing.


@attrs.frozen(kw_only=True)
class Wanted:
    """A caller's wishes; the operator's template bounds them."""

    seconds: float  #: that it lasts
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)}>")
    rules: Rules = Rules()
    pauses: bool = False  #: at its timeout, in place of ending
    resumes: bool = False  #: by itself, when somebody asks it for something
    snapshot: Snapshot | None = None  #: whose files it begins with

    @property
    def is_plain(self) -> bool:
        """Whether any sandbox of the template will do: variables are each command's."""
        limited = self.rules.offline or self.rules.hosts is not None
        return not limited and not self.pauses and self.snapshot is None
