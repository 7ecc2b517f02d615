"""A server in front of each wall that is here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import stockade
from plugins.server.serving import Served, serving
from stockade.errors import StockadeError

#: Templates by wall; a wall that is not here skips with its reason.
WALLS = {"local": "local?ports=8000", "docker": "docker:stockade-test/python?ports=8000"}


def need(string: str) -> None:
    try:
        stockade.provider(string, check_available=True)
    except StockadeError as error:
        pytest.skip(f"{string}: {error}")


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
