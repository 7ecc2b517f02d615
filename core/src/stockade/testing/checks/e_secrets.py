"""E11: secrets that code uses and never sees."""

from __future__ import annotations

import base64
import contextlib
import secrets as randomness
from collections.abc import Iterator

import pytest

from stockade.capabilities import Feature
from stockade.config import Secret
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.demanding import VARIABLE, Demanding, demanding

__all__ = ["Secrets"]

#: Asks by hand, since a small image's Python has nothing that speaks HTTP: a placeholder goes to
#: each place, over TLS or in plain, and what comes back is printed.
_ASK = """
import os, socket, ssl
way = os.environ["http_proxy"].rpartition("/")[2].partition(":")
held = os.environ[{variable!r}]

def said(sock):
    data = b""
    while True:
        piece = sock.recv(65536)
        if not piece: return data
        data += piece

for kind, place in {places!r}:
    name = place.partition(":")[0]
    lines = "Host: %s\\r\\nAuthorization: Bearer %s\\r\\nConnection: close\\r\\n\\r\\n" % (place, held)
    try:
        sock = socket.create_connection((way[0], int(way[2])), 10)
        if kind == "http":
            sock.sendall(("GET http://%s/ HTTP/1.1\\r\\n" % place + lines).encode())
        else:
            sock.sendall(("CONNECT %s HTTP/1.1\\r\\n\\r\\n" % place).encode())
            first = sock.recv(4096)
            if b" 200 " not in first.partition(b"\\r\\n")[0]: raise OSError(first)
            context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
            sock = context.wrap_socket(sock, server_hostname=name)
            sock.sendall(("GET / HTTP/1.1\\r\\n" + lines).encode())
        print(kind, place, said(sock).decode())
    except (OSError, ssl.SSLError) as error: print(kind, place, "nothing", error)
"""

#: Looks for what it is given backwards, so that it does not find itself.
_LOOK = """
import os
wanted = [text[::-1].encode() for text in {backwards!r}]
found = [name for name, value in os.environb.items() if any(w in value for w in wanted)]

def look(path):
    try:
        with open(path, "rb") as file: data = file.read(8 << 20)
    except OSError: return
    if any(w in data for w in wanted): found.append(path.encode())

for number in os.listdir("/proc"):
    if number.isdigit():
        for name in ("environ", "cmdline"): look("/proc/%s/%s" % (number, name))
for top in ("/etc", "/tmp", "/var", "/dev/shm", "/run", os.getcwd()):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path): look(path)
print("found", found)
"""


class Secrets(ConformanceBase):
    """What requests carry, and code never sees."""

    def test_E11_requests_to_its_hosts_carry_it_and_no_other(self) -> None:
        if not self.make_provider().wall.capabilities[Feature.SECRETS]:
            self._refused_by_name()
            return
        with self._demanded() as (server, value, _), demanding(value, tls=False) as other:
            own, away = f"secret.invalid:{server.port}", f"other.invalid:{server.port}"
            plain = f"plain.invalid:{other.port}"
            with self._session(server, plain=other.port) as session:
                places = [("https", own), ("https", away), ("http", plain), ("http", own)]
                self._ask(session, places)
            # A tunnel that stays sealed may carry a placeholder, which is worth nothing there.
            seen = server.all_seen()
            sent = [(host, given) for host, given in seen if value in given or host == own]
            expect(sent == [(own, f"Bearer {value}")], "E11", "its host alone is sent it", seen)
            expect(not other.all_seen(), "E11", "no placeholder to another host", plain)

    def test_E11_no_answer_brings_it_back(self) -> None:
        self.need(Feature.SECRETS)
        with self._demanded() as (server, value, session):
            own = f"secret.invalid:{server.port}"
            answer = self._ask(session, [("https", own)])
            expect(server.all_seen(), "E11", "a request that reaches its host", answer)
            expect("you sent Bearer" in answer, "E11", "the server's answer", answer)
            shown = [form for form in _forms(value) if form in answer]
            expect(not shown, "E11", "an answer without the value", answer)

    def test_E11_the_value_is_nowhere_inside(self) -> None:
        self.need(Feature.SECRETS)
        with self._demanded() as (server, value, session):
            self._ask(session, [("https", f"secret.invalid:{server.port}")])
            expect(server.all_seen(), "E11", "a request that reaches its host", "none")
            backwards = [form[::-1] for form in _forms(value)]
            looked = session.code(_LOOK.format(backwards=backwards), timeout=self.scaled(40))
            expect(looked.stdout.startswith("found []"), "E11", "the value nowhere", looked)

    # -- what the checks share ---------------------------------------------------------

    def _refused_by_name(self) -> None:
        """Where it is unsupported."""
        provider = self.make_provider()
        secret = Secret("checked", f"env:{VARIABLE}", hosts=["secret.invalid"])
        config = provider.config.with_(network_enabled=False, secrets=(secret,))
        self.refused("E11", lambda: provider.create_session("a", config), Feature.SECRETS)

    @contextlib.contextmanager
    def _demanded(self) -> Iterator[tuple[Demanding, str, Session]]:
        """A server, the value that it is to be sent, and a session that has the secret."""
        with self.shared() as session:
            self.need_python(session)
            if not session.code("import ssl", timeout=self.scaled(20)).success:
                pytest.skip("the sandbox's Python has no TLS")
        value = f"checked-{randomness.token_urlsafe(24)}"
        with demanding(value) as server, self._session(server) as session:
            yield server, value, session

    def _session(
        self, server: Demanding, plain: int | None = None
    ) -> contextlib.AbstractContextManager[Session]:
        hosts = [f"secret.invalid:{server.port}=loopback"]
        secret = Secret("checked", f"env:{VARIABLE}", hosts=hosts)
        allowed = [f"other.invalid:{server.port}=loopback"]
        if plain is not None:
            allowed.append(f"plain.invalid:{plain}=loopback")
        return self.session(secrets=(secret,), network_allow=tuple(allowed))

    def _ask(self, session: Session, places: list[tuple[str, str]]) -> str:
        code = _ASK.format(variable=VARIABLE, places=places)
        return session.code(code, timeout=self.scaled(50)).stdout


def _forms(value: str) -> tuple[str, ...]:
    return value, base64.b64encode(value.encode()).decode().rstrip("=")[:-1]
