"""The contract, held to the docker wall on podman's socket, where there is one."""

from __future__ import annotations

import os
from urllib.parse import quote

import docker

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade_docker.sandbox import ContainerSandbox

SOCKET = os.environ.get("STOCKADE_PODMAN", "/var/lib/stockade-engines/podman.sock")
ENGINE = quote(f"unix://{SOCKET}", safe="")


class TestPodman(ProviderConformance):
    title = "podman:stockade-test/busybox"
    provider = f"docker:stockade-test/busybox?pull=never&engine={ENGINE}"
    elsewhere = {"DOCKER_HOST": "unix:///nowhere"}

    def kill_sandbox(self, session: Session) -> None:
        sandbox = session._record.sandbox
        assert isinstance(sandbox, ContainerSandbox)
        client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto")
        client.kill(sandbox.container)
        client.close()
