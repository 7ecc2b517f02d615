"""A `stockade serve` of this machine, and the environment that leads the wall to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from plugins.server.conftest import check_parts, need
from plugins.server.serving import Served, serving


@pytest.fixture(scope="session")
def local() -> None:
    need("local")


def need_parts() -> None:
    """The wall, the SDK, and a server to drive."""
    check_parts()
    for name, how in (
        ("stockade_e2b", "stockade-e2b"),
        ("e2b", "stockade-e2b"),
        ("starlette", "stockade-server"),
        ("uvicorn", "stockade-server"),
    ):
        pytest.importorskip(name, reason=f"pip install {how} (tox -e server)")


def leads_to(served: Served, patch: pytest.MonkeyPatch) -> None:
    """Set what `stockade serve` prints at its start."""
    for name in ("E2B_DOMAIN", "E2B_SANDBOX_URL", "E2B_DEBUG"):
        patch.delenv(name, raising=False)
    patch.setenv("E2B_API_URL", served.url)
    patch.setenv("E2B_API_KEY", served.key)


@pytest.fixture(scope="module")
def served(local: None) -> Iterator[Served]:
    with serving("--template", "base=local?network_enabled=true") as found:
        yield found


@pytest.fixture
def here(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The bare name leads to the server."""
    leads_to(served, monkeypatch)
    return served


@pytest.fixture
def until() -> Callable[[Callable[[], object], float], bool]:
    """Whether something comes true in time."""
    import time

    def wait(condition: Callable[[], object], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    return wait
