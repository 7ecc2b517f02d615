"""An authority of one session's own: it lives in this process's memory, and ends with it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import ssl
import tempfile
import threading
from collections.abc import Iterable, Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "usual_authorities"]

_DAY = dt.timedelta(days=1)
#: Longer than a session lives, and no longer than programs take a certificate for good.
_VALID = 397 * _DAY
#: Where systems keep the authorities that programs trust.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Authority:
    """Signs certificates for a session's hosts of secrets, and for no other name."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(sorted(set(hosts)))
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "stockade, for one session")]
        )
        self._certificate = self._own()
        self._lock = threading.Lock()
        self._contexts: dict[str, ssl.SSLContext] = {}

    def __repr__(self) -> str:
        return f"<Authority for {', '.join(self._hosts)}>"

    @property
    def pem(self) -> str:
        """Its certificate, for programs inside."""
        return self._certificate.public_bytes(Encoding.PEM).decode("ascii")

    def context(self, name: str) -> ssl.SSLContext:
        """To be that host's server towards a program: HTTP/1.1, and its own name alone."""
        with self._lock:
            context = self._contexts.get(name)
            if context is None:
                context = self._contexts[name] = self._made(name)
            return context

    def _made(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # Each connection has a whole handshake: nothing is kept of another one.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        secret_part = self._leaf_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        with _readable(secret_part + self._leaf(name).public_bytes(Encoding.PEM)) as path:
            context.load_cert_chain(path)
        return context

    def _own(self) -> x509.Certificate:
        usage = _usage(key_cert_sign=True, crl_sign=True)
        within = x509.NameConstraints([x509.DNSName(host) for host in self._hosts], None)
        return (
            self._begun(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            # Whoever had its key could be these hosts, inside this one sandbox, and nobody else.
            .add_extension(within, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _leaf(self, name: str) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        key = self._key.public_key()
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return (
            self._begun(subject, self._leaf_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(server, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(signer, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)  # clocks inside may be slow
            .not_valid_after(now + _VALID)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )


def _usage(**uses: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: uses.get(name, False) for name in every})


@contextlib.contextmanager
def _readable(data: bytes) -> Iterator[str]:
    """A path for what OpenSSL takes from a file alone; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        held = os.memfd_create("stockade")
        try:
            os.write(held, data)
            yield f"/proc/self/fd/{held}"
        finally:
            os.close(held)
        return
    with tempfile.NamedTemporaryFile() as file:  # only its owner may read it
        file.write(data)
        file.flush()
        yield file.name


def usual_authorities() -> str:
    """Those that programs of this machine trust, in PEM; certifi's where it names none."""
    for path in (os.environ.get(ssl.get_default_verify_paths().openssl_cafile_env), *_BUNDLES):
        try:
            if path:
                with open(path, encoding="utf-8", errors="replace") as file:
                    return file.read()
        except OSError:
            continue
    import certifi

    return certifi.contents()
