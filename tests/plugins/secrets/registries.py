"""Registries of packages and of images that demand a key: npm's way, and docker's."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import secrets
import tarfile

from plugins.secrets.servers import KEY, Page

__all__ = ["MANIFEST", "Registry"]

MANIFEST = json.dumps({"schemaVersion": 2, "layers": []}).encode()
#: Given to whoever logged in with the key; it is no secret of the session's.
_TOKEN = secrets.token_hex(16)


def _tarball() -> bytes:
    """``private-thing`` 1.0.0."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in (
            ("package.json", '{"name": "private-thing", "version": "1.0.0"}'),
            ("index.js", 'module.exports = "found";\n'),
        ):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


_PACKED = _tarball()


class Registry(Page):
    """Answers 401 to whoever has not the key."""

    def _npm(self, body: bytes) -> None:
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self.say(401, b"{}")
        elif self.path.endswith(".tgz"):
            self.say(200, _PACKED)
        else:
            place = f"https://{self.headers['Host']}/npm/private-thing/-/private-thing-1.0.0.tgz"
            dist = {"tarball": place, "shasum": hashlib.sha1(_PACKED).hexdigest()}
            version = {"name": "private-thing", "version": "1.0.0", "dist": dist}
            about = {
                "name": "private-thing",
                "dist-tags": {"latest": "1.0.0"},
                "versions": {"1.0.0": version},
            }
            self.say(200, json.dumps(about).encode(), ("Content-Type", "application/json"))

    def _v2(self, body: bytes) -> None:
        if self.headers.get("Authorization") == f"Bearer {_TOKEN}":
            self.say(200, MANIFEST)
            return
        realm = f"https://{self.headers['Host']}/token"
        given = f'Bearer realm="{realm}",service="here",scope="repository:thing:pull"'
        self.say(401, b"", ("WWW-Authenticate", given))

    def _token(self, body: bytes) -> None:
        wanted = "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.say(401, b"")
            return
        self.say(200, json.dumps({"token": _TOKEN}).encode())
