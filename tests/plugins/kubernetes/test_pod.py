"""The pod that the cluster is sent, field by field."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from plugins.kubernetes.conftest import SESSION, asked
from stockade.errors import ConfigError

pods: Any = pytest.importorskip("stockade_kubernetes.pod")
options: Any = pytest.importorskip("stockade_kubernetes.options")
compare: Any = pytest.importorskip("stockade_kubernetes.compare")

#: Of the level "restricted" of Pod Security: what each container must state.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "readOnlyRootFilesystem": True,
    "privileged": False,
}


def made(**config: Any) -> dict[str, Any]:
    return dict(pods.manifest(asked(**config), pods.Shape(image="an-image")))


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


@pytest.mark.parametrize("durable", [False, True])
def test_every_container_is_restricted_in_every_field(durable: bool) -> None:
    pod = made(durable=durable)
    assert len(containers(pod)) == 1 + durable
    for one in containers(pod):
        assert one["securityContext"] == RESTRICTED
    spec = pod["spec"]
    assert spec["securityContext"]["runAsUser"] > 0 and spec["securityContext"]["runAsGroup"] > 0
    for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        assert spec[name] is False
    for name in ("automountServiceAccountToken", "enableServiceLinks"):
        assert spec[name] is False
    assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} == {"emptyDir"}
    assert spec["restartPolicy"] == "Never" and spec["terminationGracePeriodSeconds"] == 0


def test_all_that_can_be_written_is_bounded_and_in_memory() -> None:
    pod = made(disk_mb=7, durable=True)
    for volume in pod["spec"]["volumes"]:
        assert volume["emptyDir"]["medium"] == "Memory"
        assert int(volume["emptyDir"]["sizeLimit"]) <= 7 << 20
    for one in containers(pod):
        for resource in ("memory", "cpu", "ephemeral-storage"):
            assert one["resources"]["limits"][resource]
            assert one["resources"]["requests"][resource]
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    assert {one["mountPath"] for one in mounts if not one.get("readOnly")} == {
        "/workspace",
        "/tmp",
        "/var/tmp",
    }


def test_no_value_of_the_environment_is_in_a_pod() -> None:
    secret = "hunter2-hunter2"
    text = json.dumps(made(env_vars={"TOKEN": secret}, durable=True))
    assert secret not in text and "TOKEN" not in text


def test_its_end_is_stated_and_comes_after_the_owners_own() -> None:
    assert "activeDeadlineSeconds" not in made()["spec"]
    request = attrs.evolve(asked(), expires_at=time.time() + 100)
    pod = pods.manifest(request, pods.Shape(image="an-image"))
    assert 100 < pod["spec"]["activeDeadlineSeconds"] <= 111
    assert pod["metadata"]["labels"]["io.stockade/deadline"].isdigit()


def test_names_and_labels_are_what_kubernetes_takes_and_show_no_id() -> None:
    pod = made(labels={"team": "a b/c"})
    about = pod["metadata"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", about["name"]) and len(about["name"]) < 64
    for value in about["labels"].values():
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", value) and len(value) < 64
    assert SESSION not in json.dumps([about["name"], about["labels"]])
    assert about["annotations"]["io.stockade/session"] == SESSION
    assert "team=a b/c" in about["annotations"].values()


def test_each_session_has_a_user_of_its_own() -> None:
    one = pods.user_of(asked(), own_kernel=False)
    other = pods.user_of(attrs.evolve(asked(), session_id="another"), own_kernel=False)
    assert one != other and min(*one, *other) > 0x6FFF_FFFF
    assert pods.user_of(asked(user="1234"), own_kernel=False) == (1234, 1234)
    assert pods.user_of(asked(user="1:2"), own_kernel=True) == (1, 2)


def test_without_a_network_it_has_no_name_server_either() -> None:
    assert made()["spec"]["dnsConfig"] == {"nameservers": ["127.0.0.1"]}
    assert made(network_allow=("a.example",))["spec"]["dnsPolicy"] == "None"
    assert "dnsPolicy" not in made(network_enabled=True)["spec"]
    assert made(network_enabled=True)["metadata"]["labels"]["io.stockade/network"] == "on"


def test_users_of_its_own_are_asked_for_where_they_are_wanted() -> None:
    shape = pods.Shape(image="an-image", user_namespace=True)
    pod = pods.manifest(asked(), shape)
    assert pod["spec"]["hostUsers"] is False
    # A cluster that is too old drops the field: that is no session.
    got = {name: value for name, value in pod["spec"].items() if name != "hostUsers"}
    assert compare.changes(pod["spec"], got) != []


def test_a_template_moves_pods_and_opens_none(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("metadata: {labels: {team: a}}\nspec: {tolerations: [{operator: Exists}]}\n")
    template = options.read_template(str(file))
    pod = pods.manifest(asked(), pods.Shape(image="an-image", template=template))
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]
    for text in ("spec: {hostNetwork: true}", "spec: {containers: []}", "metadata: {name: x}"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="may not be there"):
            options.read_template(str(file))
    file.write_text("metadata: {labels: {io.stockade/session: forged}}")
    pod = pods.manifest(
        asked(), pods.Shape(image="an-image", template=options.read_template(str(file)))
    )
    assert pod["metadata"]["labels"]["io.stockade/session"] != "forged"
