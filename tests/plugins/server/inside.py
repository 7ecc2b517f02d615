"""Programs that run in sandboxes for the tests."""

from __future__ import annotations

__all__ = ["STREAMING"]

#: By path: /echo repeats, /flood sends all that it can, /close ends with a code of its own,
#: /away sends elsewhere, /events streams over HTTP, /stuck reads nothing. It counts at /count.
STREAMING = r"""
import base64, hashlib, http.server, json, struct, threading, time
sent, go = [0], threading.Event()
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
    def do_GET(self):
        getattr(self, self.path.split("?")[0].strip("/").partition(":")[0] or "count")()
    def count(self):
        said = str(sent[0]).encode()
        self.head(200, content_length=str(len(said)))
        self.wfile.write(said)
    def proceed(self):
        go.set()
        self.head(204)
    def away(self):
        self.head(302, location=self.path.partition(":")[2], content_length="0")
    def events(self):
        self.head(200, content_type="text/event-stream", connection="close")
        self.wfile.write(b"data: first\n\n")
        go.wait(30)
        self.wfile.write(b"data: second\n\n")
        self.close_connection = True
    def endless(self):
        self.head(200, connection="close")
        self.pour(b"x" * 65536)
    def pour(self, data):
        sent[0] = 0
        try:
            while True:
                self.wfile.write(data)
                sent[0] += len(data)
        except OSError:
            sent[0] = -1
        self.close_connection = True
    def shake(self):
        key = self.headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key).digest()).decode()
        more = {}
        if self.headers["sec-websocket-protocol"]:
            more["sec_websocket_protocol"] = self.headers["sec-websocket-protocol"].split(",")[0]
        more["sec_websocket_accept"] = accept
        self.head(101, upgrade="websocket", connection="Upgrade", **more)
        self.close_connection = True
    def take(self):
        first, second = self.rfile.read(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self.rfile.read(2 if size == 126 else 8), "big")
        mask = self.rfile.read(4)
        data = bytes(one ^ mask[at % 4] for at, one in enumerate(self.rfile.read(size)))
        return first & 15, data
    def give(self, kind, data):
        size = len(data)
        long = struct.pack(">BBQ", 128 | kind, 127, size)
        head = bytes([128 | kind, size]) if size < 126 else long
        self.wfile.write(head + data)
    def echo(self):
        self.shake()
        said = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        self.give(1, json.dumps(said).encode())
        while True:
            kind, data = self.take()
            self.give(kind, data)
            if kind == 8:
                sent[0] = int.from_bytes(data[:2], "big")
                return
    def close(self):
        self.shake()
        self.give(8, struct.pack(">H", 4321) + b"enough")
    def flood(self):
        self.shake()
        data = b"x" * 60000
        self.pour(struct.pack(">BBH", 130, 126, len(data)) + data)
    def stuck(self):
        self.shake()
        time.sleep(60)
    def bad(self):
        self.shake()
        self.wfile.write(b"\xff\xff no frame at all")
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Server).serve_forever()
"""
