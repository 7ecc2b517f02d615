"""The pod of one session: every wall of it stated, so that it passes the "restricted" level of
Pod Security in every field."""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

import attrs

from stockade.config import SandboxConfig
from stockade.system.moments import moment
from stockade.wall import OpenRequest
from stockade_kubernetes import script

__all__ = ["CONTAINER", "INIT", "LABEL", "Shape", "labels_of", "manifest", "name_of", "user_of"]

#: Labels and annotations are this and a word.
LABEL = "io.stockade/"
CONTAINER = "sandbox"
#: The container that brings the supervisor into a durable pod, before the other starts.
INIT = "supervisor"
#: The deadline outside comes this much after the supervisor's own, which comes after core's.
_OUTSIDE_LATER = 10.0
#: Given out by no system, and apart for every session: a kernel counts some things by user (E8),
#: the limit on processes is one of them.
_USERS = range(0x7000_0000, 0x7FFE_0000)
#: For a runtime with a kernel of its own.
_NOBODY = 65534
_MIB = 1 << 20
#: For the container that only writes the supervisor.
_INIT_MB = 64


@attrs.frozen
class Shape:
    """What the wall and its options add to the configuration."""

    image: str
    pull: str = "IfNotPresent"
    runtime_class: str | None = None
    own_kernel: bool = False
    service_account: str | None = None
    node_selector: dict[str, str] | None = None
    pull_secret: str | None = None
    cpu_request: float | None = None
    ephemeral_mb: int = 1024
    user_namespace: bool = False
    seccomp: str | None = None  #: below the kubelets' folder; None: the runtime's own
    template: dict[str, Any] = attrs.field(factory=dict)


def name_of(session_id: str) -> str:
    """The pod's name: it shows the session's id to nobody who may list pods."""
    return f"stockade-{_hash(session_id)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def user_of(request: OpenRequest, *, own_kernel: bool) -> tuple[int, int]:
    """Whom the session's programs run as, where the caller names nobody: one of its own."""
    if request.config.user is not None:
        uid, _, gid = request.config.user.partition(":")
        return int(uid), int(gid or uid)
    if own_kernel:
        return _NOBODY, _NOBODY
    number = int.from_bytes(hashlib.sha256(request.session_id.encode()).digest()[:8], "big")
    chosen = _USERS[number % len(_USERS)]
    return chosen, chosen


def labels_of(request: OpenRequest) -> dict[str, str]:
    """What pods are found by. Labels hold few characters, so the words are in annotations."""
    found = {
        f"{LABEL}session": _hash(request.session_id),
        f"{LABEL}owner": _hash(request.owner),
        f"{LABEL}network": "on" if request.config.network_enabled else "off",
    }
    if request.expires_at is not None:
        found[f"{LABEL}deadline"] = f"{math.ceil(request.expires_at)}"
    return found


def _annotations(request: OpenRequest) -> dict[str, str]:
    found = {
        f"{LABEL}session": request.session_id,
        f"{LABEL}agent": request.agent_hash,
        f"{LABEL}owner": request.owner,
        f"{LABEL}created": moment(time.time()),
    }
    if request.expires_at is not None:
        found[f"{LABEL}expires"] = moment(request.expires_at)
    if request.config.durable:
        found[f"{LABEL}durable"] = "1"
    for number, (name, text) in enumerate(request.config.labels.items()):
        found[f"{LABEL}label-{number}"] = f"{name}={text}"
    return found


def manifest(request: OpenRequest, shape: Shape) -> dict[str, Any]:
    """What the API server is sent."""
    config = request.config
    uid, gid = user_of(request, own_kernel=shape.own_kernel)
    more = shape.template
    marks = more.get("metadata") or {}
    spec: dict[str, Any] = {
        **(more.get("spec") or {}),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "shareProcessNamespace": False,
        "terminationGracePeriodSeconds": 0,
        "hostname": "sandbox",
        # It has no name server: what must be named is carried over the session's connection.
        **({} if config.network_enabled else _NO_NAMES),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "seccompProfile": _filter(shape),
        },
        "containers": [_container(request, shape)],
        "volumes": _volumes(config),
    }
    if config.durable:
        spec["initContainers"] = [_init_container(shape)]
    if request.expires_at is not None:
        left = request.expires_at - time.time() + _OUTSIDE_LATER
        spec["activeDeadlineSeconds"] = max(1, math.ceil(left))
    if shape.runtime_class is not None:
        spec["runtimeClassName"] = shape.runtime_class
    if shape.service_account is not None:
        spec["serviceAccountName"] = shape.service_account
    if shape.node_selector is not None:
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), **shape.node_selector}
    if shape.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": shape.pull_secret}]
    if shape.user_namespace:
        spec["hostUsers"] = False
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(request.session_id),
            "labels": {**(marks.get("labels") or {}), **labels_of(request)},
            "annotations": {**(marks.get("annotations") or {}), **_annotations(request)},
        },
        "spec": spec,
    }


_NO_NAMES: dict[str, Any] = {
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["127.0.0.1"]},
}


def _filter(shape: Shape) -> dict[str, Any]:
    if shape.seccomp is None:
        return {"type": "RuntimeDefault"}
    return {"type": "Localhost", "localhostProfile": shape.seccomp}


def _security(shape: Shape) -> dict[str, Any]:
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": _filter(shape),
    }


def _container(request: OpenRequest, shape: Shape) -> dict[str, Any]:
    config = request.config
    left = None if request.expires_at is None else request.expires_at - time.time()
    command = script.held(config, left) if config.durable else script.started(config)
    found: dict[str, Any] = {
        "name": CONTAINER,
        "image": shape.image,
        "imagePullPolicy": shape.pull,
        "command": command,
        "workingDir": "/",
        # Of the executions' environment nothing stands here: who may read pods reads this (B4).
        "env": [
            {"name": "HOME", "value": config.working_dir},
            {"name": "LANG", "value": "C.UTF-8"},
        ],
        "stdin": not config.durable,
        "stdinOnce": not config.durable,
        "tty": False,
        # The kubelet mounts a file there that all may write, and counts it nowhere: inside of
        # what may be written, its size is bounded as every file's is (see script.py).
        "terminationMessagePath": "/dev/shm/.end",
        "terminationMessagePolicy": "File",
        "securityContext": _security(shape),
        "resources": _resources(config, shape),
        "volumeMounts": [
            {"name": name, "mountPath": place} for name, place in _places(config).items()
        ],
    }
    if config.durable:
        found["volumeMounts"].append(
            {"name": INIT, "mountPath": script.FOLDER, "readOnly": True},
        )
    return found


def _init_container(shape: Shape) -> dict[str, Any]:
    limits = {"memory": str(_INIT_MB * _MIB), "cpu": "1", "ephemeral-storage": str(64 * _MIB)}
    return {
        "name": INIT,
        "image": shape.image,
        "imagePullPolicy": shape.pull,
        "command": script.delivered(),
        "workingDir": "/",
        "stdin": True,
        "stdinOnce": True,
        "tty": False,
        "terminationMessagePolicy": "File",
        "securityContext": _security(shape),
        "resources": {"limits": limits, "requests": {**limits, "cpu": "10m"}},
        "volumeMounts": [{"name": INIT, "mountPath": script.FOLDER}],
    }


def _places(config: SandboxConfig) -> dict[str, str]:
    return {"work": config.working_dir, "tmp": "/tmp", "var-tmp": "/var/tmp"}


def _volumes(config: SandboxConfig) -> list[dict[str, Any]]:
    """In memory, where a full one is full at once: the node's disk is looked at now and then,
    and whoever is past the bound by then is evicted."""
    folder: dict[str, Any] = {"medium": "Memory"}
    if config.disk_mb is not None:
        folder["sizeLimit"] = str(config.disk_mb * _MIB)
    found: list[dict[str, Any]] = [
        {"name": name, "emptyDir": dict(folder)} for name in _places(config)
    ]
    if config.durable:
        size = str(4 * _MIB)
        found.append({"name": INIT, "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return found


def _resources(config: SandboxConfig, shape: Shape) -> dict[str, Any]:
    limits = {"ephemeral-storage": str(shape.ephemeral_mb * _MIB)}
    requests = dict(limits)
    if config.memory_mb is not None:
        limits["memory"] = requests["memory"] = str(config.memory_mb * _MIB)
    if config.cpu_limit is not None:
        limits["cpu"] = f"{max(1, round(config.cpu_limit * 1000))}m"
        requests["cpu"] = limits["cpu"]
    if shape.cpu_request is not None:
        requests["cpu"] = f"{max(1, round(shape.cpu_request * 1000))}m"
    return {"limits": limits, "requests": requests}
