"""A durable pod as one of the processes that use it sees it (C10)."""

from __future__ import annotations

from collections.abc import Callable

from stockade.errors import SandboxLostError
from stockade.toolkit.supervised import AttachedSandbox
from stockade_kubernetes.cluster import Cluster
from stockade_kubernetes.sandbox import PodSandbox, remove_pod

__all__ = ["AttachedPod"]


class AttachedPod(AttachedSandbox):
    """With the cluster's own removing where no supervisor is held."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        uid: str,
        reach: PodSandbox | Callable[[], PodSandbox],
    ) -> None:
        super().__init__(reach)
        self.cluster = cluster
        self.name = name
        self.uid = uid

    def freeze(self, yes: bool) -> None:
        raise SandboxLostError("pods cannot be paused.")  # nor does the wall claim it

    def remove(self) -> None:
        remove_pod(self.cluster, self.name, self.uid, certain=True)
