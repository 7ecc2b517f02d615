"""The page at /docs, and the document behind it: they say what is served, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.server.serving import Caller, serving

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

from stockade_server import inside, openapi
from stockade_server.described import BODIES, OPERATIONS

pytestmark = pytest.mark.usefixtures("local")


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with serving("--template", "base=local") as served:
        yield Caller(served.url, served.key)


@pytest.fixture(scope="module")
def document(caller: Caller) -> dict[str, Any]:
    status, found = Caller(caller.url, "").ask("GET", "/openapi.json")
    assert status == 200
    assert isinstance(found, dict)
    return found


def test_it_is_a_document_of_openapi(document: dict[str, Any]) -> None:
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="openapi-spec-validator is not installed (tox -e server)"
    )
    validator.validate(document)


def test_all_that_it_names_is_served(caller: Caller, document: dict[str, Any]) -> None:
    """None of it is answered as what is nowhere, or by another method."""
    found = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found += 1
            place = re.sub(r"\{\w+\}", "unknown", path)
            asked = Caller(caller.url, "") if operation["security"] else caller
            status, said = asked.ask(method.upper(), place)
            assert status != 405, (method, path)
            assert "nothing at this path" not in str(said), (method, path)
            if operation["security"]:
                assert status in (400, 401), (method, path, status, said)
            else:
                assert str(status) in operation["responses"], (method, path, status)
    assert found == len(OPERATIONS) + sum(map(len, BODIES.values()))


def test_every_method_of_the_services_is_described() -> None:
    served = {*inside._CALLS, *inside._STREAMS, "process.Process/StreamInput"}
    described = {
        path.strip("/").replace("{method}", name)
        for path, names in BODIES.items()
        for name in names
    }
    assert described == served


def test_a_route_that_nobody_described_is_an_error() -> None:
    from starlette.routing import Route

    with pytest.raises(KeyError, match="described nowhere"):
        openapi.document([Route("/new", lambda _: None)])


def test_the_page_is_markup_alone(caller: Caller) -> None:
    connection = caller.connection()
    try:
        connection.request("GET", "/docs")
        answer = connection.getresponse()
        assert "script-src 'self'" in str(answer.getheader("content-security-policy"))
        text = answer.read().decode()
    finally:
        connection.close()
    for path in ("/v2/sandboxes", "/process.Process/Start", "/contexts/{context_id}/restart"):
        assert f"<code>{path}</code>" in text
    assert not re.search(r"<script|https?://|style=|onload", text)
    places = set(re.findall(r"(?:href|src)='([^']+)'", text))
    assert places == {"/ui/style.css", "/openapi.json"}
