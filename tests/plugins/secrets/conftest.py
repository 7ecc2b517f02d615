"""A server that demands a key, trusted by this process as any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import need
from plugins.secrets.gits import GitServer
from plugins.secrets.inside import name_of
from plugins.secrets.servers import KEY, Certified, KeyServer, certified


@pytest.fixture(params=["bubblewrap", "docker:stockade-test/work"], ids=name_of)
def wall(request: pytest.FixtureRequest) -> str:
    need(name_of(request.param))
    return str(request.param)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certified(tmp_path_factory.mktemp("tls"), "api.example", "other.example")


@pytest.fixture
def trusted(files: Certified, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process trusts the tests' authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
    monkeypatch.setenv("API_KEY", KEY)
    return files.authority


@pytest.fixture
def server(files: Certified, trusted: Path) -> Iterator[KeyServer]:
    made = KeyServer(files)
    yield made
    made.close()


@pytest.fixture
def git(files: Certified, trusted: Path, tmp_path: Path) -> Iterator[GitServer]:
    made = GitServer(files, tmp_path)
    yield made
    made.close()
