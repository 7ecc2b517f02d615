"""Which service a string and an environment lead to, and what its errors mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import stockade
from plugins.e2b.conftest import need_parts
from stockade.capabilities import Isolation
from stockade.errors import ConfigError, ProviderUnavailableError
from stockade.sessions._runtime import Runtime
from stockade.wall import Place

need_parts()
httpx: Any = pytest.importorskip("httpx")
exceptions: Any = pytest.importorskip("e2b.exceptions")
services: Any = pytest.importorskip("stockade_e2b.service")
E2bWall: Any = pytest.importorskip("stockade_e2b.wall").E2bWall

SECRET = "e2b_0123456789abcdef"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("E2B_API_KEY", SECRET)


def service(**options: Any) -> Any:
    return services.Service.of({**E2bWall().chosen, **options})


def test_alone_it_is_the_cloud() -> None:
    found = service()
    assert found.options["api_url"] == "https://api.e2b.app" and "sandbox_url" not in found.options
    assert E2bWall().isolation is Isolation.VM
    assert E2bWall(options={"domain": "example.org"}).isolation is Isolation.PROCESS


def test_what_the_string_names_stands_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("E2B_API_URL", "http://one:3000")
    assert service().options["api_url"] == "http://one:3000"
    assert service().sandbox_url == "http://one:3000"
    named = service(api_url="http://two:3000")
    assert (named.api_url, named.sandbox_url) == ("http://two:3000", "http://two:3000")
    # A domain of the string's leads to no URL of the environment's.
    assert service(domain="example.org").options["api_url"] == "https://api.example.org"


def test_debugging_in_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would make no sandbox and say that it had."""
    monkeypatch.setenv("E2B_DEBUG", "true")
    assert service().options["debug"] is False


def test_a_key_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}2\n")
    found = service(key_file=str(file))
    assert found.key == f"{SECRET}2"
    for text in (repr(found), str(found.place), found.name):
        assert SECRET not in text
    with pytest.raises(ConfigError, match="cannot be read"):
        service(key_file=str(tmp_path / "none"))


def test_without_a_key_it_says_where_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2B_API_KEY")
    with pytest.raises(ProviderUnavailableError, match="E2B_API_KEY.*key_file"):
        # In a runtime of its own: a yes to another environment is believed for some seconds.
        stockade.provider("e2b", check_available=True, runtime=Runtime(discover_plugins=False))


@pytest.mark.parametrize("string", ["e2b?api_url=ftp://x", "e2b?timeout=1", "e2b?key=x"])
def test_options_are_checked_and_a_key_is_none_of_them(string: str) -> None:
    with pytest.raises((ConfigError, ValueError)):
        stockade.provider(string)


# -- where it is (C9) --------------------------------------------------------------


def test_a_place_leads_there_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place.parse(str(service(api_url="https://one/api", sandbox_url="https://two").place))
    assert place is not None and place.sure and not place.seen_by
    monkeypatch.setenv("E2B_API_URL", "http://elsewhere:1")
    there = service().at(place)
    assert (there.api_url, there.sandbox_url) == ("https://one/api", "https://two")
    assert service(domain="example.org").at(place).place == place


def test_another_account_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    place = service().place
    monkeypatch.setenv("E2B_API_KEY", "e2b_another")
    assert service().place != place
    with pytest.raises(ProviderUnavailableError, match="another key"):
        service().at(place)
    with pytest.raises(ProviderUnavailableError):
        service().at(Place.anywhere("what nobody wrote"))


def test_this_machines_own_server_is_a_place_of_this_machine() -> None:
    assert service(api_url="http://127.0.0.1:3000").place.seen_by
    assert not service(api_url="http://10.0.0.7:3000").place.seen_by


# -- errors -----------------------------------------------------------------------


def _with_status(status: int) -> Any:
    return exceptions.SandboxException(f"{status}: x", status_code=status)


@pytest.mark.parametrize(
    ("error", "retryable", "nothing_began"),
    [
        (exceptions.RateLimitException("429"), True, True),
        (exceptions.ServiceBusyException("503"), True, True),
        (httpx.ConnectError("refused"), True, True),
        (exceptions.TimeoutException("late"), True, False),
        (httpx.ReadError("broke off"), True, False),
        (_with_status(500), True, False),
        (_with_status(502), True, False),
        (_with_status(404), False, False),
        (_with_status(403), False, False),
        (_with_status(400), False, False),
        (exceptions.AuthenticationException("401"), False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_says_whether_to_try_again(
    error: Exception, retryable: bool, nothing_began: bool
) -> None:
    failed = services.failed_start("opening failed", error)
    assert (failed.retryable, failed.nothing_began) == (retryable, nothing_began)
