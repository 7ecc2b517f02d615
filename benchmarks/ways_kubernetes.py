"""Kubernetes' official client used directly, as its own examples do it."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

from kubernetes import client, config, watch
from kubernetes.stream import stream

__all__ = ["OfficialClient"]

_NAMES = itertools.count()


class OfficialClient:
    """A pod that is as hardened as one of a session's; an ``exec`` for each program.

    It has no row of much output: 100 MB through its websocket took longer than three minutes.
    """

    name = "official client"

    def __init__(self, image: str, kubeconfig: str, template: dict[str, Any]) -> None:
        self.image, self.template = image, template
        self.configuration = client.Configuration()
        config.load_kube_config(kubeconfig, client_configuration=self.configuration)
        _, current = config.list_kube_config_contexts(kubeconfig)
        self.namespace = current["context"]["namespace"]
        # An API object that is used by `stream` cannot be used by others meanwhile.
        self._local = threading.local()

    def _api(self, kind: str) -> Any:
        if not hasattr(self._local, kind):
            setattr(self._local, kind, client.CoreV1Api(client.ApiClient(self.configuration)))
        return getattr(self._local, kind)

    def _pod(self, name: str) -> dict[str, Any]:
        folders = {"work": "/workspace", "tmp": "/tmp", "var-tmp": "/var/tmp"}
        limits = {"memory": "512Mi", "cpu": "1"}
        return {
            "metadata": {"name": name},
            "spec": {
                **self.template.get("spec", {}),
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "runAsGroup": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "main",
                        "image": self.image,
                        "imagePullPolicy": "Never",
                        "command": ["sleep", "2147483647"],
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {"limits": limits, "requests": {**limits, "cpu": "100m"}},
                        "volumeMounts": [
                            {"name": volume, "mountPath": place}
                            for volume, place in folders.items()
                        ],
                    }
                ],
                "volumes": [
                    {"name": volume, "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
                    for volume in folders
                ],
            },
        }

    def create(self) -> str:
        name = f"official-{os.getpid()}-{next(_NAMES)}"
        api = self._api("plain")
        api.create_namespaced_pod(self.namespace, self._pod(name))
        seen = watch.Watch()
        for event in seen.stream(
            api.list_namespaced_pod,
            self.namespace,
            field_selector=f"metadata.name={name}",
            timeout_seconds=120,
        ):
            if event["object"].status.phase == "Running":
                seen.stop()
        return name

    def _exec(self, box: str, argv: list[str]) -> Any:
        return stream(
            self._api("streams").connect_get_namespaced_pod_exec,
            box,
            self.namespace,
            command=argv,
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )

    def execute(self, box: str, argv: list[str]) -> None:
        answer = self._exec(box, argv)
        answer.run_forever(timeout=60)
        assert answer.returncode == 0
        answer.close()

    def destroy(self, box: str) -> None:
        self._api("plain").delete_namespaced_pod(box, self.namespace, grace_period_seconds=0)
