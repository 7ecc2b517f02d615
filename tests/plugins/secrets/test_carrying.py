"""Requests that carry a secret to its hosts, and what comes back (E11)."""

from __future__ import annotations

import base64
import threading

import pytest

from plugins.secrets.servers import KEY, Client, KeyServer, Watch, gateway, opened
from stockade.config import Secret
from stockade.errors import PolicyRefusedError
from stockade.toolkit.egress import Gateway
from stockade.wall import RequestOutcome


def secret(server: KeyServer, **fields: object) -> Secret:
    hosts = [f"api.example:{server.port}=loopback"]
    return Secret("key", env="API_KEY", **{"hosts": hosts, **fields})  # type: ignore[arg-type]


class Asking:
    """A session's gateway, the placeholder, and a program that asks."""

    def __init__(self, server: KeyServer, **fields: object) -> None:
        self.server, self.watch = server, Watch()
        self.place = f"api.example:{server.port}"
        self.gateway: Gateway = gateway(secret(server, **fields), watch=self.watch)
        assert self.gateway.opener is not None
        self.placeholder = self.gateway.opener.placeholders["API_KEY"]

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        with opened(self.gateway, self.place) as tls:
            client = Client(tls, self.place)
            status, body = client.ask(method, path, None, **headers)
            self.answer = client.answer
            return status, body


def test_a_header_carries_the_value(server: KeyServer) -> None:
    asking = Asking(server)
    status, body = asking.ask("/key?a=1", Authorization=f"Bearer {asking.placeholder}")
    assert (status, body) == (200, b"welcome")
    method, path, headers, _ = server.last()
    assert (method, path) == ("GET", "/key?a=1")
    assert headers["Authorization"] == f"Bearer {KEY}" and headers["Host"] == asking.place
    assert asking.placeholder not in str(headers) and KEY not in asking.placeholder
    request, outcome, code, _ = asking.watch.next()
    assert (request.host, request.path, request.secrets) == ("api.example", "/key", ("key",))
    assert (outcome, code) == (RequestOutcome.CARRIED, 200)


def test_without_the_placeholder_nothing_is_put_in(server: KeyServer) -> None:
    asking = Asking(server)
    assert asking.ask("/key")[0] == 401
    assert asking.watch.next()[0].secrets == ()
    assert asking.ask("/key", Authorization="Bearer mine")[0] == 401


@pytest.mark.parametrize("pair", ["user:{}", "{}:x-oauth-basic"])
def test_basic_authentication_carries_the_value(server: KeyServer, pair: str) -> None:
    asking = Asking(server, basic=True)
    both = base64.b64encode(pair.format(asking.placeholder).encode()).decode()
    assert asking.ask("/key", Authorization=f"Basic {both}")[0] == 200


def test_a_parameter_and_another_header_carry_the_value(server: KeyServer) -> None:
    asking = Asking(server, header="X-Api-Key")
    assert asking.ask("/key", X_Api_Key=asking.placeholder)[0] == 200
    asking = Asking(server, query="token")
    asking.ask(f"/key?a=1&token={asking.placeholder}&b=2")
    assert server.last() and server.last()[1] == (
        "/key?a=1&token=sk-live-0123456789%2FabcDEF%2Bxyz&b=2"
    )


def test_a_format_is_the_whole_header(server: KeyServer) -> None:
    asking = Asking(server, header="Authorization", format="Bearer {value}")
    assert asking.ask("/key", Authorization=f"Bearer {asking.placeholder}")[0] == 200
    status, words = asking.ask("/key", Authorization=f"Token {asking.placeholder}")
    assert status == 403 and b"Bearer $API_KEY" in words


def test_a_format_is_no_template_but_for_the_value(server: KeyServer) -> None:
    asking = Asking(server, header="X-Api-Key", format="{0}{x}{value}")
    asking.ask("/key", X_Api_Key=f"{{0}}{{x}}{asking.placeholder}")
    assert server.last()[2]["X-Api-Key"] == f"{{0}}{{x}}{KEY}"


MISPLACED = {
    "another header": {"X_Other": "{}"},
    "twice in one": {"Authorization": "Bearer {} {}"},
    "a cookie": {"Cookie": "a={}"},
    "in base64, and not basic": {"X_Other": "b64"},
}


@pytest.mark.parametrize("headers", MISPLACED.values(), ids=MISPLACED)
def test_a_placeholder_elsewhere_is_refused(server: KeyServer, headers: dict[str, str]) -> None:
    asking = Asking(server, header="Authorization")
    encoded = base64.b64encode(f"x:{asking.placeholder}".encode()).decode()
    given = {
        name: encoded if text == "b64" else text.format(*[asking.placeholder] * 2)
        for name, text in headers.items()
    }
    status, words = asking.ask("/key", **given)
    assert status == 403 and b"secret" in words
    assert asking.watch.next()[1] is RequestOutcome.REFUSED
    assert server.seen.empty()


def test_a_placeholder_in_the_path_is_refused(server: KeyServer) -> None:
    asking = Asking(server)
    assert asking.ask(f"/key/{asking.placeholder}")[0] == 403
    assert asking.ask(f"/key?x={asking.placeholder}")[0] == 403
    assert server.seen.empty()


def test_methods_and_paths_narrow_it(server: KeyServer) -> None:
    asking = Asking(server, methods=["GET"], paths=["/repos/me/*", "/user"])
    bearer = f"Bearer {asking.placeholder}"

    def status(path: str, method: str = "GET", **more: str) -> int:
        return asking.ask(path, method, Authorization=bearer, **more)[0]

    assert status("/user") == 200 and status("/repos/me/a/b?x=/../") == 200
    assert asking.ask("/other", "DELETE")[0] == 401, "without it anything may be asked"
    before = server.seen.qsize()
    for path in (
        "/other",
        "/repos/me/../you/a",
        "/repos/me/%2e%2e/you",
        "/repos/me/..;/you",
        "/repos/me/..%2fyou",
        "/repos/me/%252e%252e/you",
        "/repos//me/a",
        "/repos/me/..\\you",
    ):
        assert status(path) == 403, path
    assert status("/user", "DELETE") == 403
    for name in ("X_HTTP_Method_Override", "X_Original_URL", "X_Rewrite_URL"):
        assert status("/user", **{name: "/admin"}) == 403, name
    assert server.seen.qsize() == before


@pytest.mark.parametrize(
    "path", ["/echo", "/gzip", "/deflate", "/pieces", "/base64", "/elsewhere", "/echo?x=1"]
)
def test_no_answer_brings_it_back(server: KeyServer, path: str) -> None:
    asking = Asking(server)
    _, body = asking.ask(
        path, Authorization=f"Bearer {asking.placeholder}", Accept_Encoding="gzip, br, zstd"
    )
    whole = body + str(asking.answer.getheaders()).encode()
    for form in (KEY, "0123456789", base64.b64encode(KEY.encode()).decode(), "c2stbGl2ZS0wMTIz"):
        assert form.encode() not in whole
    assert b"*" * len(KEY) in whole
    assert "br" not in server.last()[2].get("Accept-Encoding", "")


def test_an_answer_without_the_secret_is_looked_at_too(server: KeyServer) -> None:
    """The server may have kept it."""
    asking = Asking(server)
    status, body = asking.ask("/base64")
    assert status == 200 and b"c2stbGl2" not in body and b"***" in body


def test_what_nobody_can_look_into_is_refused_or_passed_as_stated(server: KeyServer) -> None:
    status, words = Asking(server).ask("/br")
    assert status == 403 and b"'br'" in words
    assert Asking(server, uninspected="pass").ask("/br") == (200, b"as if it were brotli")


def test_a_part_is_never_asked_for(server: KeyServer) -> None:
    Asking(server).ask("/echo", Range="bytes=0-9", If_Range="x")
    assert not {"Range", "If-Range"} & server.last()[2].keys()


def test_a_redirect_shows_no_value(server: KeyServer) -> None:
    asking = Asking(server)
    asking.ask("/elsewhere", Authorization=f"Bearer {asking.placeholder}")
    assert asking.answer.getheader("Location") == f"https://other.example/?token={'*' * len(KEY)}"


def test_a_policy_may_refuse(server: KeyServer) -> None:
    asking = Asking(server)
    asking.watch.refuses = PolicyRefusedError("not today")
    status, words = asking.ask("/key", Authorization=f"Bearer {asking.placeholder}")
    assert status == 403 and b"not today" in words and server.seen.empty()
    assert asking.watch.judged[-1].secrets == ("key",)
    assert asking.watch.next()[1] is RequestOutcome.REFUSED


def test_many_requests_on_one_connection(server: KeyServer) -> None:
    asking = Asking(server)
    with opened(asking.gateway, asking.place) as tls:
        client = Client(tls, asking.place)
        for number in range(5):
            body = b"x" * (number * 100_000)
            status, said = client.ask(
                "POST", "/echo", body, Authorization=f"Bearer {asking.placeholder}"
            )
            assert status == 200 and said.endswith(body)
            assert client.ask("HEAD", "/key")[0] == 401


def test_chunks_go_up_as_chunks(server: KeyServer) -> None:
    asking = Asking(server)
    with opened(asking.gateway, asking.place) as tls:
        client = Client(tls, asking.place)
        client.request("POST", "/echo", iter([b"one", b"two" * 50_000]), encode_chunked=True)
        answer = client.getresponse()
        assert answer.read().endswith(b"one" + b"two" * 50_000)


def test_fifty_at_once(server: KeyServer) -> None:
    asking, found = Asking(server), list[int]()

    def one() -> None:
        found.append(asking.ask("/key", Authorization=f"Bearer {asking.placeholder}")[0])

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [200] * 50
