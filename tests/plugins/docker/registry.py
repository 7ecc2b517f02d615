"""A registry of images on loopback: as much of its protocol as an engine needs to pull one."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import docker

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry(http.server.ThreadingHTTPServer):
    """Serves one image under any name; ``stall`` has its layer never end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.blobs: dict[str, bytes] = {}
        self.manifest = b""
        self.stall = False
        self.lies = ""  #: a digest that it answers to with a manifest that has another
        self.release = threading.Event()
        #: What was asked for: the last part of each path.
        self.asked: list[str] = []

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.server_port}/stockade-test/pulled"

    @property
    def digest(self) -> str:
        return _digest(self.manifest)

    def hold(self, engine: docker.APIClient, image: str) -> None:
        """Offer an image that the engine has, with a layer on top that it does not."""
        with tarfile.open(fileobj=BytesIO(b"".join(engine.get_image(image)))) as saved:

            def read(name: str) -> bytes:
                file = saved.extractfile(name)
                assert file is not None
                return file.read()

            (entry,) = json.loads(read("manifest.json"))
            config = json.loads(read(entry["Config"]))
            layers = [read(name) for name in entry["Layers"]]
        layers.append(_layer("etc/mark", os.urandom(200_000)))
        config["rootfs"]["diff_ids"] = [_digest(layer) for layer in layers]
        del config["history"]
        self.offer(json.dumps(config).encode(), [gzip.compress(layer, 1) for layer in layers])

    def offer(self, config: bytes, layers: list[bytes]) -> None:
        for blob in (config, *layers):
            self.blobs[_digest(blob)] = blob
        kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": [
                    {"mediaType": kind, "size": len(layer), "digest": _digest(layer)}
                    for layer in layers
                ],
            }
        ).encode()


def _layer(name: str, data: bytes) -> bytes:
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, BytesIO(data))
    return made.getvalue()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        last = self.path.rpartition("/")[2]
        self.server.asked.append(last)
        names = ("latest", "second", self.server.digest, self.server.lies)
        if self.path == "/v2/":
            self._send(b"{}", "application/json", body=body)
        elif "/manifests/" in self.path and last in names:
            self._send(self.server.manifest, _MANIFEST, body=body)
        elif "/blobs/" in self.path and last in self.server.blobs:
            self._send(self.server.blobs[last], "application/octet-stream", body=body)
        else:
            self.send_error(404)

    def _send(self, data: bytes, kind: str, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", _digest(data))
        self.end_headers()
        if not body:
            return
        if self.server.stall and len(data) > 100_000:
            self.wfile.write(data[:50_000])
            self.server.release.wait(60)
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving() -> Iterator[Registry]:
    registry = Registry()
    thread = threading.Thread(target=registry.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.release.set()
        registry.shutdown()
        registry.server_close()
        thread.join(10)
