"""Packages for the jobs, made here: wheels, tarballs of npm's, a Debian package; and a server."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

__all__ = ["GREETING", "LEFT", "Served", "serving"]


def _wheel(name: str, code: str, *, entry: str = "", requires: str = "") -> bytes:
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{entry}\n"
    record = [f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _tar(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)


def _npm(name: str, files: Mapping[str, str], **more: object) -> bytes:
    about = {"name": name, "version": "1.0.0", **more}
    return _tar(
        {f"package/{path}": text for path, text in files.items()}
        | {"package/package.json": json.dumps(about)}
    )


def _debian(name: str, files: Mapping[str, str]) -> tuple[bytes, str]:
    """A package, and what it says of itself."""
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.example>\n"
        "Description: for the tests\n"
    )
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar({"./control": control}),
        "data.tar.gz": _tar(files),
    }
    packed = b"!<arch>\n"
    for member, data in members.items():
        packed += f"{member:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode()
        packed += data + b"\n" * (len(data) % 2)
    return packed, control


GREETING = _wheel(
    "greeting",
    "words = 'hello from a wheel'\ndef main():\n    print(words)\n",
    entry="greet = greeting:main",
)
SALUTE = _wheel(
    "salute",
    "import greeting\nprint(greeting.words + ', saluted')\n",
    requires="Requires-Dist: greeting\n",
)
LEFT = _npm("left", {"index.js": "module.exports = 'left';\n"})
RIGHT = _npm(
    "right",
    {
        "index.js": "module.exports = 'right';\n",
        "run.js": "#!/usr/bin/env node\nconsole.log('run by npx');\n",
    },
    bin={"right": "run.js"},
)


def _pages() -> dict[str, bytes]:
    """An index of Python's, a registry of npm's and a repository of Debian's, by path."""
    debian, control = _debian("greeting", {"./usr/share/greeting": "hello from a package\n"})
    digest = hashlib.sha256(debian).hexdigest()
    packages = f"{control}Filename: ./greeting.deb\nSize: {len(debian)}\nSHA256: {digest}\n"
    digest = base64.b64encode(hashlib.sha512(RIGHT).digest()).decode()
    right = {
        "name": "right",
        "version": "1.0.0",
        "bin": {"right": "run.js"},
        "dist": {"tarball": "{site}/right.tgz", "integrity": f"sha512-{digest}"},
    }
    about = {"name": "right", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": right}}
    return {
        "/page": b"from the host's server\n",
        "/simple/greeting/": b"<a href='/files/greeting-1.0-py3-none-any.whl'>greeting</a>",
        "/simple/salute/": b"<a href='/files/salute-1.0-py3-none-any.whl'>salute</a>",
        "/files/greeting-1.0-py3-none-any.whl": GREETING,
        "/files/salute-1.0-py3-none-any.whl": SALUTE,
        "/right": json.dumps(about).encode(),
        "/right.tgz": RIGHT,
        "/debian/./Packages": packages.encode(),
        "/debian/./greeting.deb": debian,
    }


class _Handler(http.server.BaseHTTPRequestHandler):
    pages: Mapping[str, bytes] = _pages()

    def do_GET(self) -> None:
        body = self.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        body = (body or b"").replace(b"{site}", f"http://{self.headers['Host']}".encode())
        if self.path.endswith("/"):
            self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@attrs.frozen
class Served:
    """Where the pages are, on this machine's loopback."""

    port: int
    tls_port: int
    certificate: bytes

    def allowed(self, host: str) -> str:
        """An entry of ``network_allow`` for a name of Job.hosts."""
        port = self.tls_port if host.startswith("tls ") else self.port
        return f"{host.removeprefix('tls ')}:{port}=loopback"


@contextlib.contextmanager
def serving(folder: Path, name: str) -> Iterator[Served]:
    """Serve the pages, by TLS with a certificate for ``name`` too; files go to ``folder``."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext"]
    command += [f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    secret = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    secret.socket = context.wrap_socket(secret.socket, server_side=True)
    with plain, secret:
        for server in (plain, secret):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Served(plain.server_port, secret.server_port, certificate.read_bytes())
        finally:
            plain.shutdown()
            secret.shutdown()
