"""Numbers between bounds, as fields of what callers build."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from stockade.errors import ConfigError

__all__ = ["bounded"]


def bounded(
    low: float, high: float, *, whole: bool = False, optional: bool = False
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A validator of a number's type and bounds: booleans, NaN and infinities are refused (B2).

    It raises ConfigError, which names the field, the value and what is allowed.
    """
    kind = "a whole number" if whole else "a number"
    allowed = f"{kind} from {low:.12g} to {high:.12g}"
    allowed += ", or None for no limit" if optional else ""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        types_ok = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, types_ok):
            raise ConfigError(f"{attribute.name}={value!r} is not allowed: {allowed}.")
        if not math.isfinite(value) or not low <= value <= high:
            raise ConfigError(f"{attribute.name}={value!r} is not allowed: {allowed}.")

    return check
