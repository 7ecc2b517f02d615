"""LangChain's standard tests for sandboxes, whole, on every wall that is here.

Those of langchain-tests 1.1.9 fit deepagents 0.6: from 0.7 on, writing replaces a file and glob
gives absolute paths, which two of them refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import pytest

import stockade
from conftest import need
from stockade_deepagents import StockadeSandbox

standard = pytest.importorskip("langchain_tests.integration_tests")

pytestmark = [
    pytest.mark.skipif(
        not version("deepagents").startswith("0.6."), reason="the suite fits deepagents 0.6"
    ),
    # How the suite has its fixtures written, which pytest 10 will refuse.
    pytest.mark.filterwarnings("ignore:Class-scoped fixtures:pytest.PytestDeprecationWarning"),
]


class _Suite(standard.SandboxIntegrationTests):  # type: ignore[name-defined,misc]
    provider: str

    @pytest.fixture(scope="class")
    def sandbox(self) -> Iterator[StockadeSandbox]:
        need(self.provider.partition(":")[0])
        # One of them calls python3 by the name python, which Debian has not.
        path = {"PATH": "/workspace/.bin:/usr/local/bin:/usr/bin:/bin"}
        with stockade.open(self.provider, agent_id="deepagents", env_vars=path) as session:
            link = 'mkdir .bin && ln -s "$(command -v python3)" .bin/python'
            assert session.shell(link).success
            yield StockadeSandbox(session)


class TestBubblewrap(_Suite):
    provider = "bubblewrap"


class TestLandlock(_Suite):
    provider = "landlock"


class TestDocker(_Suite):
    provider = "docker:stockade-test/work?pull=never"


class TestGvisor(_Suite):
    provider = "gvisor:stockade-test/work?pull=never"


del _Suite
