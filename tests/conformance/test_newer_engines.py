"""The contract, held to the docker wall on engines that Debian 13 has: where `.ci/engines up
docker26 podman5` has started them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import docker
import pytest

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade_docker.sandbox import ContainerSandbox

HOME = Path(os.environ.get("STOCKADE_ENGINES", "/var/lib/stockade-engines"))


def _string(engine: str, image: str) -> str:
    url = quote(f"unix://{HOME}/{engine}.sock", safe="")
    return f"docker:stockade-test/{image}?pull=never&engine={url}"


class OnNewer(ProviderConformance):
    """What such an engine's classes share; of itself no wall."""

    engine: ClassVar[str] = ""
    elsewhere = {"DOCKER_HOST": "unix:///nowhere"}

    @pytest.fixture(autouse=True)
    def engine_is_there(self) -> None:
        if (HOME / f"{self.engine}.sock").exists():
            return
        reason = f"{self.engine} is not here: .ci/engines up {self.engine} starts it"
        if self.engine in os.environ.get("STOCKADE_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, ContainerSandbox)
        client = docker.APIClient(base_url=f"unix://{HOME}/{self.engine}.sock", version="auto")
        client.kill(sandbox.container)
        client.close()


class TestDocker26(OnNewer):
    engine = "docker26"
    title = "docker26:stockade-test/python"
    provider = _string("docker26", "python")


class TestPodman5(OnNewer):
    engine = "podman5"
    title = "podman5:stockade-test/busybox"
    provider = _string("podman5", "busybox")
