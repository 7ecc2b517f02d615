"""Mutants of E11: gateways that show a value, send it elsewhere, or bring it back."""

from __future__ import annotations

import functools
from typing import Any

import h11
import pytest

from conformance.mutants.base import Mutant, NoWall, Patch, string_suite, suite
from conformance.mutants.selecting import _core
from stockade.toolkit.egress.gateway import _Conversation
from stockade_secrets.masking import Masker
from stockade_secrets.opener import Opener
from stockade_secrets.requests import Draft

__all__ = ["SECRET", "WITHOUT_GATEWAY"]

_CARRIED = "E11_requests_to_its_hosts_carry_it_and_no_other"
_NOWHERE = "E11_the_value_is_nowhere_inside"
_BACK = "E11_no_answer_brings_it_back"


def _shows(patch: pytest.MonkeyPatch) -> None:
    """The value itself stands inside."""

    def values(self: Opener) -> dict[str, str]:
        return {secret.env: self._keys.vault.value(secret.name) for secret in self._secrets}

    patch.setattr(Opener, "placeholders", property(values))


def _masks_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Masker, "_masked", lambda _, data, __: data)


def _looks_at_nothing(patch: pytest.MonkeyPatch) -> None:
    """A placeholder goes wherever a program sends it."""
    patch.setattr(_Conversation, "_look", lambda *_: None)


def _fills_nothing(patch: pytest.MonkeyPatch) -> None:
    filled = Draft.filled

    def unfilled(self: Draft, values: Any) -> h11.Request:
        return filled(self, self._placeholders.by_name)

    patch.setattr(Draft, "filled", unfilled)


def _of(name: str, check: str, patch: Patch, says: str = "") -> Mutant:
    make = functools.partial(string_suite, "bubblewrap")
    return Mutant(name=name, check=check, make=make, patch=patch, says=says, needs="bubblewrap")


#: Walls that take secrets and have no gateway, for each check.
WITHOUT_GATEWAY = [
    Mutant(
        name="has-no-gateway",
        check=check,
        make=functools.partial(suite, NoWall, secrets="native", network_off="native"),
    )
    for check in (_CARRIED, _NOWHERE, _BACK)
]

SECRET = [
    *WITHOUT_GATEWAY,
    _core(_CARRIED, "takes-secrets", "stockade.sessions._runtime.refuse", lambda *_: None),
    _of("fills-nothing", _CARRIED, _fills_nothing, "its host alone"),
    _of("sends-placeholders-anywhere", _CARRIED, _looks_at_nothing, "no placeholder to another"),
    _of("shows-the-value", _NOWHERE, _shows, "the value nowhere"),
    _of("masks-nothing", _BACK, _masks_nothing, "an answer without the value"),
]
