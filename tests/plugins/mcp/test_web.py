"""Streamable HTTP, with uvicorn in this process: keys, and a sandbox for each client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import mcp
import pytest
import uvicorn
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from plugins.mcp.serving import REFERENCE, behind, call, sessions, until
from stockade.errors import ConfigError
from stockade_mcp import Behind, make_app
from stockade_mcp.web import check_place, keys_of

KEYS = ("a-key-of-the-first-user", "a-key-of-the-second-one")
ASKS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@asynccontextmanager
async def served(of: Behind, **more: Any) -> AsyncIterator[str]:
    """The URL of a server, which keeps its port from the first to the last."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            make_app(of, **more), log_level="warning", timeout_graceful_shutdown=1, ws="none"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await until(lambda: server.started or serving.done())
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def client_of(url: str, key: str) -> AsyncIterator[mcp.Client]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        async with mcp.Client(streamable_http_client(url, http_client=http)) as client:
            yield client


def body(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


HELLO = body(
    "initialize",
    protocolVersion=HANDSHAKE_PROTOCOL_VERSIONS[-1],
    capabilities={},
    clientInfo={"name": "test", "version": "0"},
)


def test_each_client_has_a_sandbox_that_ends_with_it() -> None:
    async def main() -> None:
        of = behind(REFERENCE)
        async with served(of, keys=KEYS) as url:
            async with client_of(url, KEYS[0]) as one, client_of(url, KEYS[1]) as other:
                assert one.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS
                for client, word in ((one, "mine"), (other, "theirs")):
                    await call(client, "write_file", path="file", text=word)
                done = await call(one, "run_command", command="cat file; echo; ls | wc -l")
                assert done["stdout"].split() == ["mine", "1"]
                assert sessions(of) == 2
            await until(lambda: sessions(of) == 0)

    asyncio.run(main())


def test_progress_and_cancelling() -> None:
    async def main() -> None:
        notes: list[str | None] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            notes.append(message)

        async with served(behind(REFERENCE), keys=KEYS) as url, client_of(url, KEYS[0]) as client:
            line = "echo $$ > pid; echo begun; exec sleep 1000"
            running = asyncio.ensure_future(
                client.call_tool("run_command", {"command": line}, progress_callback=note)
            )
            await until(lambda: notes == ["begun\n"])
            running.cancel()
            await asyncio.wait([running])
            gone = "while kill -0 $(cat pid); do sleep 0.02; done"
            done = await call(client, "run_command", command=gone, timeout_seconds=20)
            assert done["verdict"] == "exited"

    asyncio.run(main())


def test_nobody_comes_in_without_a_key() -> None:
    async def main() -> None:
        of = behind(REFERENCE)
        async with served(of, keys=KEYS) as url, httpx2.AsyncClient(headers=ASKS) as http:
            for given in ("", "Bearer", "Bearer no-key-of-anybody-s", f"Basic {KEYS[0]}"):
                for method in ("POST", "GET", "DELETE"):
                    headers = {"authorization": given} if given else {}
                    answer = await http.request(method, url, json=HELLO, headers=headers)
                    assert answer.status_code == 401, (method, given)
                    assert answer.headers["www-authenticate"] == "Bearer"

    asyncio.run(main())


def test_a_session_is_its_key_s_alone() -> None:
    async def main() -> None:
        of = behind(REFERENCE)
        async with served(of, keys=KEYS) as url, httpx2.AsyncClient(headers=ASKS) as http:
            mine, theirs = ({"authorization": f"Bearer {key}"} for key in KEYS)
            opened = await http.post(url, json=HELLO, headers=mine)
            named = {"mcp-session-id": opened.headers["mcp-session-id"]}
            asked = body("tools/call", name="list_files", arguments={})
            assert (await http.post(url, json=asked, headers={**mine, **named})).status_code == 200
            for method in ("POST", "DELETE"):
                answer = await http.request(method, url, json=asked, headers={**theirs, **named})
                assert answer.status_code == 404, method
            assert sessions(of) == 1
            assert (await http.delete(url, headers={**mine, **named})).status_code == 200
            await until(lambda: sessions(of) == 0)

    asyncio.run(main())


def test_a_protocol_without_sessions_is_refused_with_those_that_have() -> None:
    async def main() -> None:
        async with served(behind(REFERENCE), keys=KEYS) as url, httpx2.AsyncClient() as http:
            key = ("authorization", f"Bearer {KEYS[0]}")
            new = ("mcp-protocol-version", "2026-07-28")
            old = ("mcp-protocol-version", HANDSHAKE_PROTOCOL_VERSIONS[-1])
            for versions in ([new], [new, old], [old, new]):
                headers = [*ASKS.items(), key, *versions]
                answer = await http.post(url, json=body("tools/list"), headers=headers)
                assert answer.status_code == 400
                assert answer.json()["error"]["data"] == {
                    "supported": list(HANDSHAKE_PROTOCOL_VERSIONS),
                    "requested": "2026-07-28",
                }

    asyncio.run(main())


def test_who_is_silent_has_left_and_one_too_many_is_refused() -> None:
    async def main() -> None:
        of = behind(REFERENCE)
        more = {"keys": KEYS, "most_clients": 1, "idle_seconds": 3.0}
        async with served(of, **more) as url, httpx2.AsyncClient(headers=ASKS) as http:
            key = {"authorization": f"Bearer {KEYS[0]}"}
            opened = await http.post(url, json=HELLO, headers=key)
            named = {"mcp-session-id": opened.headers["mcp-session-id"]}
            assert (await http.post(url, json=HELLO, headers=key)).status_code == 503
            asked = body("tools/call", name="list_files", arguments={})
            await http.post(url, json=asked, headers={**key, **named})
            assert sessions(of) == 1
            await until(lambda: sessions(of) == 0)
            assert (await http.post(url, json=asked, headers={**key, **named})).status_code == 404

    asyncio.run(main())


@pytest.mark.parametrize("place", ["127.0.0.1", "::1", "localhost"])
def test_without_keys_a_page_of_the_web_reaches_nothing(place: str) -> None:
    async def main() -> None:
        app = {"insecure": True, "host": place}
        async with served(behind(REFERENCE), **app) as url, httpx2.AsyncClient() as http:
            assert (await http.post(url, json=HELLO, headers=ASKS)).status_code == 200
            for name, value in (("host", "evil.example"), ("origin", "http://evil.example")):
                answer = await http.post(url, json=HELLO, headers={**ASKS, name: value})
                assert answer.status_code in (403, 421), name

    asyncio.run(main())


def test_the_end_of_the_server_ends_sandboxes() -> None:
    async def main() -> None:
        of = behind(REFERENCE)
        async with served(of, keys=KEYS) as url, httpx2.AsyncClient(headers=ASKS) as http:
            key = {"authorization": f"Bearer {KEYS[0]}"}
            opened = await http.post(url, json=HELLO, headers=key)
            named = {"mcp-session-id": opened.headers["mcp-session-id"]}
            asked = body("tools/call", name="list_files", arguments={})
            await http.post(url, json=asked, headers={**key, **named})
            assert sessions(of) == 1
        assert sessions(of) == 0

    asyncio.run(main())


def test_where_it_may_serve() -> None:
    check_place("0.0.0.0", KEYS, False)
    for host in ("127.0.0.1", "::1", "localhost"):
        check_place(host, (), True)
        with pytest.raises(ConfigError, match="needs a key"):
            check_place(host, (), False)
    # The SDK refuses pages of a browser at those three alone.
    for host in ("0.0.0.0", "10.0.0.1", "::", "example.com", "", "127.0.0.2", "0:0:0:0:0:0:0:1"):
        with pytest.raises(ConfigError, match="loopback alone"):
            check_place(host, (), True)
        with pytest.raises(ConfigError, match="loopback alone"):
            make_app(behind(REFERENCE), host=host, insecure=True)


def test_keys_are_lines() -> None:
    assert keys_of(f"# two\n{KEYS[0]}\n\n  {KEYS[1]}  \n") == list(KEYS)
    assert keys_of("") == []
    for short in ("short", f"{KEYS[0]}\nshort", "ä" * 20):
        with pytest.raises(ConfigError, match="16 ASCII"):
            keys_of(short)
