"""What is deployed beside the pods, and what the wall asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugins.kubernetes.conftest import asked

pods: Any = pytest.importorskip("stockade_kubernetes.pod")
rights: Any = pytest.importorskip("stockade_kubernetes.rights")
yaml: Any = pytest.importorskip("yaml")
DEPLOYED = Path(__file__).parents[3] / "deploy" / "kubernetes"


def test_the_filter_is_the_container_walls_own() -> None:
    seccomp: Any = pytest.importorskip("stockade_docker.seccomp")
    own = json.loads(seccomp.own())
    deployed = json.loads((DEPLOYED / "seccomp.json").read_text())
    # Those that there is a supervisor for: an old runc refuses names that it does not know.
    architectures = [one["architecture"] for one in own.pop("archMap")][:2]
    assert architectures == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert deployed == {**own, "architectures": architectures}


def test_a_filter_of_the_nodes_is_stated_in_every_place() -> None:
    shape = pods.Shape(image="an-image", seccomp="stockade.json")
    spec = pods.manifest(asked(durable=True), shape)["spec"]
    wanted = {"type": "Localhost", "localhostProfile": "stockade.json"}
    assert spec["securityContext"]["seccompProfile"] == wanted
    for one in (*spec["containers"], *spec["initContainers"]):
        assert one["securityContext"]["seccompProfile"] == wanted


def test_the_role_gives_what_doctor_asks_for_and_no_more() -> None:
    role = next(
        one
        for one in yaml.safe_load_all((DEPLOYED / "role.yaml").read_text())
        if one["kind"] == "Role"
    )
    given = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    wanted = {
        (verb, group, f"{resource}/{sub}" if sub else resource)
        for verb, group, resource, sub, *_ in rights.RIGHTS
    }
    # The metrics are for `stockade top` alone.
    assert given - wanted == {("get", "metrics.k8s.io", "pods")} and wanted <= given


def test_the_policy_selects_the_pods_that_have_no_network() -> None:
    policy = yaml.safe_load((DEPLOYED / "networkpolicy.yaml").read_text())
    labels = pods.labels_of(asked())
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert not selected.items() <= pods.labels_of(asked(network_enabled=True)).items()
    assert sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
