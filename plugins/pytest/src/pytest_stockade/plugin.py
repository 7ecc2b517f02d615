"""The plug-in: options, a marker, and the fixtures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from stockade import Session

__all__ = ["open_sandbox", "sandbox", "sandbox_provider"]

_MARKER = "sandbox"
_SETTING = "sandbox_providers"
#: Why a wall is not there, so that it is asked once.
_missing = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stockade")
    group.addoption(
        "--sandbox",
        action="append",
        dest=_SETTING,
        metavar="STRING",
        help="Provider of the fixture 'sandbox': name[:target][?option=value&…]; again for more.",
    )
    group.addoption(
        "--sandbox-required",
        action="store_true",
        help="Fail tests whose wall is not there, instead of skipping them.",
    )
    parser.addini(_SETTING, type="linelist", help="The same, one a line.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_missing] = {}
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(*providers, **options): which walls the test runs behind, and what "
        "stockade.open takes besides.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each wall."""
    if "sandbox_provider" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker(_MARKER)
    config = metafunc.config
    strings = (marker and marker.args) or config.getoption(_SETTING) or config.getini(_SETTING)
    if strings:
        metafunc.parametrize("sandbox_provider", list(strings), ids=_shown, indirect=True)


def _shown(string: str) -> str:
    """A provider without its options: a value may be a secret."""
    return "|".join(part.partition("?")[0].strip() for part in string.split("|"))


@pytest.fixture
def sandbox_provider(request: pytest.FixtureRequest) -> str | None:
    """The provider string; None where nobody named one, and ``stockade.open`` chooses."""
    string: str | None = getattr(request, "param", None)
    return string


@pytest.fixture
def open_sandbox(
    request: pytest.FixtureRequest, sandbox_provider: str | None
) -> Iterator[Callable[..., Session]]:
    """Open sessions behind the test's wall; they are closed with the test.

    Takes what ``stockade.open`` takes besides the provider, which stands over the marker's.
    """
    import stockade

    marker = request.node.get_closest_marker(_MARKER)
    asked = dict(marker.kwargs) if marker else {}
    with contextlib.ExitStack() as opened:

        def open(**options: Any) -> Session:
            key = f"{sandbox_provider} {asked} {options}"
            if why := request.config.stash[_missing].get(key):
                _end(request.config, why)
            chosen = {"agent_id": "pytest", **asked, **options}
            try:
                session = stockade.open(sandbox_provider, **chosen)
            except (
                stockade.ProviderNotFoundError,
                stockade.ProviderUnavailableError,
                stockade.UnsupportedError,
            ) as error:
                request.config.stash[_missing][key] = str(error)
                _end(request.config, str(error))
            return opened.enter_context(session)

        yield open


@pytest.fixture
def sandbox(open_sandbox: Callable[..., Session]) -> Session:
    """A session of the test's own."""
    return open_sandbox()


def _end(config: pytest.Config, why: str) -> NoReturn:
    if config.getoption("sandbox_required"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)
