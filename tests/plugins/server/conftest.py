"""A server in front of each wall that is here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

import stockade
from plugins.server.serving import Served, serving
from stockade.errors import StockadeError

#: Templates by wall; a wall that is not here skips with its reason.
WALLS = {"local": "local?ports=8000", "docker": "docker:stockade-test/python?ports=8000"}
#: What `tox -e server` installs.
_PARTS = (
    *("e2b", "e2b_code_interpreter", "openapi_spec_validator", "opentelemetry.sdk", "starlette"),
    *("stockade_e2b", "stockade_otel", "stockade_server", "uvicorn", "websockets", "yaml"),
)


def promised() -> bool:
    """Whether CI promises what these tests drive: ``STOCKADE_REQUIRE`` names ``server``."""
    return "server" in os.environ.get("STOCKADE_REQUIRE", "").split(",")


def missing(reason: str) -> NoReturn:
    """Skip what needs a thing that is not here, or fail where CI promises it."""
    if promised():
        pytest.fail(f"STOCKADE_REQUIRE names server: {reason}")
    pytest.skip(reason)


def check_parts() -> None:
    """Raises pytest.UsageError where CI promises distributions that are not installed."""
    left = [name for name in _PARTS if importlib.util.find_spec(name) is None] if promised() else []
    if left:
        raise pytest.UsageError(f"STOCKADE_REQUIRE names server, and there is no {left}")


check_parts()


def need(string: str) -> None:
    try:
        stockade.provider(string, check_available=True)
    except StockadeError as error:
        missing(f"{string}: {error}")


@pytest.fixture(scope="session")
def local() -> None:
    need("local")


@pytest.fixture(scope="module", params=list(WALLS))
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The SDKs' variables are set as the server prints them."""
    string = WALLS[request.param]
    need(string)
    names = ("base", "code-interpreter-v1")
    options = [word for name in names for word in ("--template", f"{name}={string}")]
    with serving(*options) as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2B_API_URL", found.url)
        patch.setenv("E2B_SANDBOX_URL", found.url)
        patch.setenv("E2B_API_KEY", found.key)
        patch.delenv("E2B_DEBUG", raising=False)
        yield found
