"""Numbers between bounds, as fields of what callers build."""

from __future__ import annotations

import math
from typing import Any

import attrs

from stockade.errors import ConfigError

__all__ = ["Bounded", "bounded"]


@attrs.frozen
class Bounded:
    """A validator of a number's type and bounds: booleans, NaN and infinities are refused (B2).

    It raises ConfigError, which names the field, the value and what is allowed.
    """

    low: float  #: the least that is allowed
    high: float  #: the most
    whole: bool = False  #: without a fraction
    optional: bool = False  #: None is allowed, too, and is no limit

    @property
    def allowed(self) -> str:
        """In words."""
        kind = "a whole number" if self.whole else "a number"
        none = ", or None for no limit" if self.optional else ""
        return f"{kind} from {self.low:.12g} to {self.high:.12g}{none}"

    def __call__(self, _: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and self.optional:
            return
        types_ok = (int,) if self.whole else (int, float)
        wrong = isinstance(value, bool) or not isinstance(value, types_ok)
        if wrong or not math.isfinite(value) or not self.low <= value <= self.high:
            raise ConfigError(f"{attribute.name}={value!r} is not allowed: {self.allowed}.")


def bounded(low: float, high: float, *, whole: bool = False, optional: bool = False) -> Bounded:
    """A validator of a number from ``low`` to ``high``."""
    return Bounded(low, high, whole, optional)
