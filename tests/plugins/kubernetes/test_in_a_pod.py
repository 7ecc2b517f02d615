"""The command line inside a pod of the cluster, by that pod's own account."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.kubernetes.conftest import HOME, pods_of

clusters: Any = pytest.importorskip("stockade_kubernetes.cluster")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
IMAGE = "stockade-test/inside:latest"
#: Where pods have a network on which they reach the API server, and no sessions are.
NAMESPACE = "open"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:stockade"
_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings"
_PROVIDER = (
    "kubernetes:stockade-test/busybox?pull=never&namespace=stockade"
    "&template=/etc/of-the-test/template"
)
_SCRIPT = f"""set -e
python3 -m stockade.cli doctor -p '{_PROVIDER}'
python3 -m stockade.cli run -p '{_PROVIDER}' -- sh -c 'echo "said by $(uname -n)"'
python3 -m stockade.cli run -p '{_PROVIDER}' -- sh -c 'exit 7' || echo "ended with $?"
"""


@pytest.fixture(scope="module")
def image(on_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian with Python, and stockade as pip installs it."""
    folder = tmp_path_factory.mktemp("image") / "stockade"
    parts = [f"{ROOT}/core[cli]", f"{ROOT}/supervisor", f"{ROOT}/plugins/kubernetes"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), *parts], check=True, capture_output=True)
    script = str(ROOT / ".ci" / "cluster")
    subprocess.run([script, "inside", str(folder)], check=True, capture_output=True)
    return IMAGE


def objects() -> list[tuple[str, dict[str, Any]]]:
    """The account, what it may do, and what a controller manager would write."""
    account = {"kind": "ServiceAccount", "metadata": {"name": "stockade"}}
    files = {
        "ca.crt": Path(HOME, "certs", "apiserver.crt").read_text(),
        "template": Path(HOME, "template.yaml").read_text(),
    }
    kept = {"kind": "ConfigMap", "metadata": {"name": "of-the-test"}, "data": files}
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "of-the-test"},
        # The Role of deploy/kubernetes/role.yaml, which `.ci/cluster up` made.
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "stockade"},
        "subjects": [{"kind": "ServiceAccount", "name": "stockade", "namespace": NAMESPACE}],
    }
    return [
        (f"{_CORE}/serviceaccounts", {"apiVersion": "v1", **account}),
        (f"{_CORE}/configmaps", {"apiVersion": "v1", **kept}),
        (_BINDINGS.format("stockade"), binding),
    ]


def pod(image: str) -> dict[str, Any]:
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "of-the-test", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    env = {
        # There is no kube-proxy, so the service's own address leads nowhere.
        "KUBERNETES_SERVICE_HOST": "10.88.8.2",
        "KUBERNETES_SERVICE_PORT": "6443",
        "HOME": "/tmp",
        "PYTHONPATH": "/opt/stockade",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", _SCRIPT],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": [
            {"name": "account", "mountPath": account},
            {"name": "files", "mountPath": "/etc/of-the-test"},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "of-the-test"},
        "spec": {
            "nodeName": "node1",
            "restartPolicy": "Never",
            "serviceAccountName": "stockade",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
            "containers": [container],
            "volumes": [
                {"name": "account", "projected": {"sources": sources}},
                {"name": "files", "configMap": {"name": "of-the-test"}},
            ],
        },
    }


@pytest.fixture
def account(admin: Any) -> Iterator[None]:
    made: list[str] = []
    try:
        for path, body in objects():
            made.append(f"{path}/{body['metadata']['name']}")
            admin.ask("POST", path, body, seconds=20)
        yield
    finally:
        for path in (f"{_CORE}/pods/of-the-test", *made):
            try:
                admin.ask("DELETE", path, {"gracePeriodSeconds": 0}, seconds=20)
            except clusters.ClusterError as error:
                assert error.gone


def test_it_opens_sessions_by_the_role_of_the_documentation_and_may_do_nothing_else(
    image: str, account: None, admin: Any
) -> None:
    before = pods_of(admin)
    admin.ask("POST", f"{_CORE}/pods", pod(image), seconds=20)
    until = time.monotonic() + 180
    phase = ""
    while phase not in ("Succeeded", "Failed") and time.monotonic() < until:
        time.sleep(0.5)
        found = admin.ask("GET", f"{_CORE}/pods/of-the-test", seconds=20)
        phase = found["status"]["phase"]
    answer = admin._request("GET", f"{_CORE}/pods/of-the-test/log", None, 20, None)
    said = answer.data.decode()
    assert phase == "Succeeded", f"{found['status']}: {said}"
    lines = said.splitlines()
    assert lines[-2:] == ["said by sandbox", "ended with 7"]
    assert "https://10.88.8.2:6443, namespace stockade" in said
    assert pods_of(admin) <= before
    for verb, resource, namespace in (
        ("get", "secrets", "stockade"),
        ("get", "configmaps", "stockade"),
        ("update", "pods", "stockade"),
        ("create", "pods", NAMESPACE),
        ("list", "nodes", ""),
    ):
        assert not _may(admin, verb, resource, namespace), (verb, resource, namespace)
    assert _may(admin, "create", "pods", "stockade")


def _may(admin: Any, verb: str, resource: str, namespace: str) -> bool:
    attributes = {"verb": verb, "resource": resource, "namespace": namespace}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(admin.ask("POST", path, body, seconds=20)["status"]["allowed"])
