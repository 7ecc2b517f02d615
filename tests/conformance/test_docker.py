"""The contract, held to docker on both images."""

from __future__ import annotations

import docker

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade_docker.sandbox import ContainerSandbox


def kill_container(session: Session) -> None:
    """Kill the session's container behind stockade's back."""
    sandbox = session._record.sandbox
    assert isinstance(sandbox, ContainerSandbox)
    client = docker.from_env()
    client.api.kill(sandbox.container)
    client.close()


class TestDockerPython(ProviderConformance):
    provider = "docker:stockade-test/python?pull=never"
    elsewhere = {"DOCKER_HOST": "unix:///nowhere"}

    def kill_sandbox(self, session: Session) -> None:
        kill_container(session)


class TestDockerBusybox(TestDockerPython):
    provider = "docker:stockade-test/busybox?pull=never"
