"""A framework's own client, which no one here wrote: LangChain's Deep Agents over E2B.

Its distribution `langchain-e2b` is used as its page says, and judged by the suite that LangChain
publishes for all sandboxes (`langchain-tests`). `tox -e langchain` has both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from plugins.server.conftest import need
from plugins.server.serving import serving

langchain_e2b = pytest.importorskip(
    "langchain_e2b", reason="langchain-e2b is not installed (tox -e langchain)"
)
suites = pytest.importorskip(
    "langchain_tests.integration_tests", reason="langchain-tests is not installed"
)

# What they import warns of its own parts.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(300),
]


#: Two of the suite's tests run `python`; Debian, as this machine and the image, has `python3`.
_NO_PYTHON = pytest.mark.xfail(reason="the sandbox has no program named python", strict=True)


class OverServe(suites.SandboxIntegrationTests):  # type: ignore[misc, name-defined]
    """`langchain-e2b` in front of a wall, with no other change than the three variables."""

    __test__ = False
    provider: str

    @pytest.fixture(scope="class")
    def served(self) -> Iterator[None]:
        need(self.provider)
        with serving("--template", f"base={self.provider}") as found:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("E2B_API_URL", found.url)
                patch.setenv("E2B_SANDBOX_URL", found.url)
                patch.setenv("E2B_API_KEY", found.key)
                yield

    @pytest.fixture(scope="class")
    def sandbox(self, served: None) -> Iterator[Any]:
        import e2b

        made = e2b.Sandbox.create(timeout=1800)
        yield langchain_e2b.E2BSandbox(sandbox=made)
        made.kill()

    @_NO_PYTHON
    def test_execute_large_stdout_payload(self, sandbox_backend: Any) -> None:
        super().test_execute_large_stdout_payload(sandbox_backend)

    @_NO_PYTHON
    async def test_aexecute_large_stdout_payload(self, sandbox_backend: Any) -> None:
        await super().test_aexecute_large_stdout_payload(sandbox_backend)


class TestLocal(OverServe):
    """Its folder for commands is /home/user, as in E2B's own images."""

    __test__ = True
    provider = "local?working_dir=/home/user"


class TestDocker(OverServe):
    """The image has a whole Python, which the backend's own commands need."""

    __test__ = True
    provider = "docker:stockade-test/work?working_dir=/home/user"
