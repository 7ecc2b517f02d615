"""The contract, held to docker on both images."""

from __future__ import annotations

import docker

from stockade.session import Session
from stockade.testing import ProviderConformance
from stockade_docker.sandbox import ContainerSandbox

#: Of an image without Python, whose shells are fewer than the engine's limit allows for.
ONE_MORE = "in a session that was attached to, one process more than asked can run"


def kill_container(session: Session) -> None:
    """Kill the session's container behind stockade's back."""
    sandbox = session._record.sandbox
    assert isinstance(sandbox, ContainerSandbox)
    client = docker.from_env()
    client.api.kill(sandbox.container)
    client.close()


class TestDockerPython(ProviderConformance):
    provider = "docker:stockade-test/python?pull=never"

    def kill_sandbox(self, session: Session) -> None:
        kill_container(session)


class TestDockerBusybox(TestDockerPython):
    provider = "docker:stockade-test/busybox?pull=never"
    deviations = {"E12_attached_E4_the_process_limit_holds": ONE_MORE}
