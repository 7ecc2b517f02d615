"""What CI promises and is not there fails a run of the server's tests."""

from __future__ import annotations

import pytest

from plugins.server import conftest


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("docker", pytest.skip.Exception), ("docker,server", pytest.fail.Exception)],
)
def test_what_is_not_here_fails_where_it_is_promised(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("STOCKADE_REQUIRE", required)
    with pytest.raises(outcome, match="no-such-wall"):
        conftest.need("no-such-wall")


def test_an_sdk_that_is_promised_and_not_installed_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "_PARTS", ("no_such_sdk",))
    monkeypatch.setenv("STOCKADE_REQUIRE", "docker")
    conftest.check_parts()
    monkeypatch.setenv("STOCKADE_REQUIRE", "server")
    with pytest.raises(pytest.UsageError, match="no_such_sdk"):
        conftest.check_parts()
