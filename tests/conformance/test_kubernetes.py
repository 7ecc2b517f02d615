"""The contract, held to pods of the cluster that `.ci/cluster up` starts."""

from __future__ import annotations

import pytest

from plugins.kubernetes.conftest import OPTIONS
from stockade.session import Session
from stockade.testing import ProviderConformance

pytest.importorskip("stockade_kubernetes", reason="pip install stockade-kubernetes")

_AWAY = {"KUBECONFIG": "/nonexistent/kubeconfig"}
#: An old kubelet on a machine with both versions of cgroups; it forgets those of version 2.
_DEVIATIONS = {
    "C9_what_a_killed_process_left_is_collected": "the kubelet of 1.20 leaves its pods' empty "
    "cgroups in a hybrid machine's unified hierarchy; no pod, process or mount is left"
}


class OnCluster:
    def kill_sandbox(self, session: Session) -> None:
        from stockade_kubernetes.sandbox import PodSandbox, remove_pod

        sandbox = session._record.sandbox
        assert isinstance(sandbox, PodSandbox)
        remove_pod(sandbox.cluster, sandbox.name)


class TestKubernetes(OnCluster, ProviderConformance):
    title = "kubernetes-debian"
    provider = f"kubernetes:stockade-test/python?{OPTIONS}&seccomp=stockade.json"
    elsewhere = _AWAY
    deviations = _DEVIATIONS


class TestKubernetesBusybox(OnCluster, ProviderConformance):
    title = "kubernetes-busybox"
    provider = f"kubernetes:stockade-test/busybox?{OPTIONS}"
    elsewhere = _AWAY
    deviations = _DEVIATIONS
