"""A pod that the cluster changed is refused where the change opens the wall."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from plugins.kubernetes.conftest import asked

pods: Any = pytest.importorskip("stockade_kubernetes.pod")
compare: Any = pytest.importorskip("stockade_kubernetes.compare")

Change = Callable[[dict[str, Any]], object]


def sent(durable: bool = True) -> dict[str, Any]:
    return dict(pods.manifest(asked(durable=durable), pods.Shape(image="an-image"))["spec"])


def first(spec: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(spec, "containers")[0]  # type: ignore[no-any-return]


OPENED: dict[str, Change] = {
    "a second container": lambda spec: spec["containers"].append({"name": "istio-proxy"}),
    "an init container": lambda spec: spec["initContainers"].append({"name": "istio-init"}),
    "a container that is debugged with": lambda spec: spec.update(
        ephemeralContainers=[{"name": "x"}]
    ),
    "a token": lambda spec: spec["volumes"].append({"name": "t", "projected": {}}),
    "a mount": lambda spec: first(spec)["volumeMounts"].append({"name": "t", "mountPath": "/t"}),
    "a variable": lambda spec: first(spec)["env"].append({"name": "HTTP_PROXY", "value": "x"}),
    "variables of a secret": lambda spec: first(spec).update(envFrom=[{"secretRef": {}}]),
    "privileges": lambda spec: first(spec)["securityContext"].update(privileged=True),
    "a capability": lambda spec: first(spec)["securityContext"]["capabilities"].update(
        add=["NET_ADMIN"]
    ),
    "capabilities kept": lambda spec: first(spec)["securityContext"].update(capabilities={}),
    "no filter": lambda spec: first(spec)["securityContext"].update(
        seccompProfile={"type": "Unconfined"}
    ),
    "no filter at all": lambda spec: first(spec)["securityContext"].pop("seccompProfile"),
    "escalation": lambda spec: first(spec)["securityContext"].pop("allowPrivilegeEscalation"),
    "a root that is written": lambda spec: first(spec)["securityContext"].update(
        readOnlyRootFilesystem=False
    ),
    "an open /proc": lambda spec: first(spec)["securityContext"].update(procMount="Unmasked"),
    "root": lambda spec: spec["securityContext"].update(runAsUser=0),
    "another user of a container": lambda spec: first(spec)["securityContext"].update(
        runAsUser=1000
    ),
    "root's group of a container": lambda spec: first(spec)["securityContext"].update(runAsGroup=0),
    "no AppArmor": lambda spec: first(spec)["securityContext"].update(
        appArmorProfile={"type": "Unconfined"}
    ),
    "no AppArmor in the pod": lambda spec: spec["securityContext"].update(
        appArmorProfile={"type": "Unconfined"}
    ),
    "another type of SELinux": lambda spec: spec["securityContext"].update(
        seLinuxOptions={"type": "spc_t"}
    ),
    "a group": lambda spec: spec["securityContext"].update(supplementalGroups=[0]),
    "a sysctl": lambda spec: spec["securityContext"].update(
        sysctls=[{"name": "kernel.shm", "value": "1"}]
    ),
    "the node's network": lambda spec: spec.update(hostNetwork=True),
    "the node's processes": lambda spec: spec.update(hostPID=True),
    "the account's token": lambda spec: spec.update(automountServiceAccountToken=True),
    "no limit": lambda spec: first(spec)["resources"]["limits"].pop("memory"),
    "a larger limit": lambda spec: first(spec)["resources"]["limits"].update(memory="1Ti"),
    "an unbounded folder": lambda spec: spec["volumes"][0]["emptyDir"].pop("sizeLimit"),
    "a folder on disk": lambda spec: spec["volumes"][0]["emptyDir"].update(medium=""),
    "a supervisor that can be written": lambda spec: first(spec)["volumeMounts"][-1].update(
        readOnly=False
    ),
    "another command": lambda spec: first(spec)["command"].insert(0, "/bin/other"),
    "a hook": lambda spec: first(spec).update(lifecycle={"postStart": {}}),
    "a name server": lambda spec: spec.update(dnsConfig={"nameservers": ["10.0.0.10"]}),
    "restarts": lambda spec: spec.update(restartPolicy="Always"),
}

ALLOWED: dict[str, Change] = {
    "nothing": lambda spec: None,
    "a node": lambda spec: spec.update(nodeName="node1"),
    "tolerations": lambda spec: spec.update(tolerations=[{"key": "a", "operator": "Exists"}]),
    "a mirror": lambda spec: first(spec).update(image="mirror.example/an-image"),
    "a priority": lambda spec: spec.update(priority=0, preemptionPolicy="PreemptLowerPriority"),
    "an account without a token": lambda spec: spec.update(serviceAccountName="default"),
    "what is false left out": lambda spec: [
        spec.pop(n) for n in ("hostNetwork", "hostPID", "hostIPC")
    ],
    "another way to write a limit": lambda spec: first(spec)["resources"]["limits"].update(
        memory="512Mi", cpu="1"
    ),
    "a profile of AppArmor": lambda spec: first(spec)["securityContext"].update(
        appArmorProfile={"type": "RuntimeDefault"}
    ),
    "a level of SELinux": lambda spec: spec["securityContext"].update(
        seLinuxOptions={"level": "s0:c1,c2"}
    ),
    "what the server fills in": lambda spec: first(spec).update(
        terminationMessagePolicy="File", stdin=False
    ),
}


@pytest.mark.parametrize("change", OPENED.values(), ids=OPENED)
def test_what_opens_the_wall_is_found(change: Change) -> None:
    got = copy.deepcopy(sent())
    change(got)
    assert compare.changes(sent(), got) != []


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_what_only_moves_the_pod_is_let_pass(change: Change) -> None:
    got = copy.deepcopy(sent())
    change(got)
    assert compare.changes(sent(), got) == []


def test_an_init_container_in_a_pod_without_any_is_found() -> None:
    got = copy.deepcopy(sent(durable=False))
    got["initContainers"] = [{"name": "istio-init"}]
    assert compare.changes(sent(durable=False), got) != []
