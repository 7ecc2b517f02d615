"""Private keys that sign as SSH has it, and the check of what servers sign."""

from __future__ import annotations

import base64
from typing import Protocol

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from stockade.config import Secret
from stockade.errors import SecretError
from stockade_secrets.ssh.wire import Fields, MalformedError, number, text

__all__ = ["Key", "PrivateKey", "parse_key", "verify"]

_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_CURVES: dict[str, hashes.HashAlgorithm] = {
    "ecdsa-sha2-nistp256": hashes.SHA256(),
    "ecdsa-sha2-nistp384": hashes.SHA384(),
    "ecdsa-sha2-nistp521": hashes.SHA512(),
}
#: RSA with SHA-1 is not among them.
_RSA: dict[str, hashes.HashAlgorithm] = {
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
}
_SHORTEST_RSA = 2048
_ED25519 = "ssh-ed25519"
#: What a program asks for an RSA key's signature with (draft-miller-ssh-agent).
_FLAG_OF = {2: "rsa-sha2-256", 4: "rsa-sha2-512"}


class Key(Protocol):
    """One key that signs, wherever it is."""

    @property
    def blob(self) -> bytes:
        """Its public half, as it travels."""

    def algorithm(self, flags: int) -> str:
        """That of its signatures with these flags. Raises ValueError for one that is not used."""

    def sign(self, data: bytes, flags: int) -> bytes:
        """The signature, as it travels. Raises SecretError, ValueError."""


@attrs.frozen(repr=False)
class PrivateKey:
    """A key in this process's memory. Shows nothing of itself."""

    _key: _Private
    blob: bytes

    def algorithm(self, flags: int) -> str:
        kind = Fields(self.blob).text().decode("ascii")
        if not isinstance(self._key, rsa.RSAPrivateKey):
            return kind
        # Both asked for: the longer one, as agents do.
        for flag in (4, 2):
            if flags & flag:
                return _FLAG_OF[flag]
        raise ValueError("RSA with SHA-1 is not signed with")

    def sign(self, data: bytes, flags: int) -> bytes:
        algorithm = self.algorithm(flags)
        key = self._key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            signature = key.sign(data)
        elif isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(data, padding.PKCS1v15(), _RSA[algorithm])
        else:
            both = decode_dss_signature(key.sign(data, ec.ECDSA(_CURVES[algorithm])))
            signature = b"".join(number(part) for part in both)
        return text(algorithm.encode()) + text(signature)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys are not pickled")


def parse_key(secret: Secret, value: str) -> PrivateKey:
    """From a file's text. Raises SecretError, which shows nothing of it."""
    data = value.strip().encode("utf-8", "replace") + b"\n"
    load = serialization.load_pem_private_key
    if b"BEGIN OPENSSH" in data:
        load = serialization.load_ssh_private_key
    words = "its value is no private key: ssh-keygen makes one"
    try:
        key = load(data, None)
    except TypeError:
        words = "its key is locked by a passphrase: name a command that unlocks it"
        raise _unusable(secret, words) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(secret, words) from None
    if not isinstance(key, _Private):
        raise _unusable(secret, "its key is neither Ed25519, ECDSA nor RSA")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _SHORTEST_RSA:
        raise _unusable(secret, f"its RSA key is shorter than {_SHORTEST_RSA} bits")
    try:
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(secret, "its key is on a curve that SSH does not have") from None
    return PrivateKey(key, base64.b64decode(line.split()[1]))


def _unusable(secret: Secret, words: str) -> SecretError:
    return SecretError(f"the secret {secret.name!r} cannot be used: {words}.")


def verify(blob: bytes, signature: bytes, data: bytes) -> None:
    """Whether the key's owner signed that. Raises InvalidSignature, MalformedError."""
    fields = Fields(signature)
    algorithm, raw = fields.text().decode("ascii", "replace"), fields.text()
    fields.end()
    kind = Fields(blob).text().decode("ascii", "replace")
    try:
        key = serialization.load_ssh_public_key(kind.encode() + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the server's key is of no kind that is known here") from None
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == kind == _ED25519:
        key.verify(raw, data)
    elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == kind in _CURVES:
        parts = Fields(raw)
        both = parts.integer(), parts.integer()
        parts.end()
        key.verify(encode_dss_signature(*both), data, ec.ECDSA(_CURVES[algorithm]))
    elif isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA:
        key.verify(raw, data, padding.PKCS1v15(), _RSA[algorithm])
    else:
        raise InvalidSignature
