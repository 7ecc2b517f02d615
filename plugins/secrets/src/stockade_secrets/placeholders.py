"""What stands inside in a value's place: random for each session, and worth nothing elsewhere."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable

from stockade.config import Secret
from stockade_secrets.masking import forms

__all__ = ["Placeholders"]

_BYTES = 20


class Placeholders:
    """One for each secret of a session; it says which of them a piece of a request holds."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        #: By the secret's name. Their length says nothing of the value's.
        self.by_name = {
            secret.name: secret.prefix + randomness.token_hex(_BYTES) for secret in secrets
        }
        self._forms = {name: forms(text.encode("ascii")) for name, text in self.by_name.items()}
        #: What must be kept of a piece, so that one that is cut in two is found.
        sizes = (len(form) for found in self._forms.values() for form in found)
        self.overlap = max(sizes, default=1) - 1

    def found(self, data: bytes) -> list[str]:
        """The names of the secrets whose placeholders stand there, also in base64 and the like."""
        return [name for name, found in self._forms.items() if any(form in data for form in found)]
