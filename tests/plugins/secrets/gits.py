"""A git server over TLS that demands a key: git's own http-backend, behind a door."""

from __future__ import annotations

import base64
import http.server
import os
import subprocess
import threading
from pathlib import Path

from plugins.secrets.servers import KEY, Certified

__all__ = ["GitServer"]


class _Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        body = self._body()
        wanted = "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "user",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
        )
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        fields = [line.partition(b": ") for line in head.split(b"\r\n")]
        status = next((int(value[:3]) for name, _, value in fields if name == b"Status"), 200)
        self.send_response(status)
        for name, _, value in fields:
            if name and name != b"Status":
                self.send_header(name.decode(), value.decode())
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        return body

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    folder: Path

    def handle_error(self, *_: object) -> None: ...


class GitServer:
    """Has one repository, with a file ``hello``."""

    def __init__(self, files: Certified, folder: Path) -> None:
        self._bare = folder / "repository"
        work = folder / "work"
        line = (
            'git init -q --bare "$1" && git -C "$1" config http.receivepack true && '
            'git init -q "$2" && cd "$2" && echo hello > hello && git add . && '
            "git -c user.name=a -c user.email=a@example.org commit -q -m first && "
            'git push -q "$1" HEAD:refs/heads/main && git -C "$1" symbolic-ref HEAD refs/heads/main'
        )
        subprocess.run(
            ["sh", "-c", line, "sh", str(self._bare), str(work)], check=True, capture_output=True
        )
        self._server = _Server(("127.0.0.1", 0), _Door)
        self._server.folder = folder
        self._server.socket = files.context().wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def files(self) -> list[str]:
        """Those of the branch, now."""
        done = subprocess.run(
            ["git", "-C", str(self._bare), "ls-tree", "--name-only", "main"],
            check=True,
            capture_output=True,
        )
        return done.stdout.decode().split()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
