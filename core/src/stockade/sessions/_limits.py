"""What a session may use: what was asked for, and what something else has fixed (B6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from stockade.config import Limits
from stockade.errors import WallError

if TYPE_CHECKING:
    from stockade.sessions._registry import SessionRecord
    from stockade.wall import Sandbox

__all__ = ["limits_of"]


def limits_of(record: SessionRecord, sandbox: Sandbox) -> Limits:
    """The limits of a record's sandbox; where none was asked for, what the wall reports.

    Raises WallError if what it reports are no limits.
    """
    reported: object = sandbox.limits()
    known = [field.name for field in attrs.fields(Limits)]
    if not hasattr(reported, "items") or not all(
        name in known and _is_limit(value) for name, value in reported.items()
    ):
        raise WallError(
            f"limits() of {record.provider} returned {reported!r:.200}, not numbers above 0 (or "
            f"None) of {', '.join(known)}; report it to its author."
        )
    asked = {name: getattr(record.config, name) for name in known}
    held = dict(reported.items())
    return Limits(
        **{name: held.get(name) if value is None else value for name, value in asked.items()}
    )


def _is_limit(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (number and float(value) > 0)  # type: ignore[arg-type]
