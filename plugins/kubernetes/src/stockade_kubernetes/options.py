"""The options that a provider string may set, and what each must be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from stockade.errors import ConfigError
from stockade.wall import Option

__all__ = ["DEFAULT_IMAGE", "OPTIONS", "check_image", "read_template"]

DEFAULT_IMAGE = "python:3.12-slim"

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,511}\Z")
_PROFILE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")
_KERNELS = ("gvisor", "kata", "node")
_PULLS = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
#: Of a template: where the pod runs and how it is marked, and nothing that makes it a wall.
_TEMPLATE_SPEC = frozenset(
    {
        "affinity",
        "nodeName",
        "nodeSelector",
        "priorityClassName",
        "schedulerName",
        "tolerations",
        "topologySpreadConstraints",
    }
)


def _name(text: str) -> str:
    if not _NAME.match(text):
        raise ValueError("a name as Kubernetes has them is needed: a-z, 0-9, '-' and '.'")
    return text


def _selector(text: str) -> dict[str, str]:
    pairs = [pair.partition(":") for pair in text.split(",")]
    if not all(key and blank and value for key, blank, value in pairs):
        raise ValueError("label:value is needed, several with commas between")
    return {key: value for key, _, value in pairs}


def _pull(text: str) -> str:
    if text not in _PULLS:
        raise ValueError(f"one of {', '.join(_PULLS)} is needed")
    return _PULLS[text]


def _kernel(text: str) -> str:
    if text not in _KERNELS:
        raise ValueError(f"one of {', '.join(_KERNELS)} is needed")
    return text


def _file(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _profile(text: str) -> str:
    if not _PROFILE.match(text) or ".." in text:
        raise ValueError("a path below the kubelets' seccomp folder is needed")
    return text


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false is needed")
    return text == "true"


def _share(text: str) -> float:
    value = float(text)
    if not 0.001 <= value <= 4096:
        raise ValueError("a number of cpus from 0.001 is needed")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 30:
        raise ValueError("seconds from 0.05 to 30 are needed")
    return value


def _megabytes(text: str) -> int:
    if not text.isdigit() or not 64 <= int(text) <= 1 << 24:
        raise ValueError("a whole number of MiB from 64 is needed")
    return int(text)


OPTIONS: Mapping[str, Option] = {
    "context": Option(str, None, "a context of the kubeconfig; else its current one"),
    "kubeconfig": Option(_file, None, "a kubeconfig's path; else KUBECONFIG, or the usual one"),
    "namespace": Option(_name, None, "where the pods are made; else the context's"),
    "runtime_class": Option(_name, None, "the RuntimeClass of the pods, such as gvisor or kata"),
    "kernel": Option(
        _kernel,
        None,
        "what that class must be, proved from inside: gvisor, kata or node (the node's own "
        "kernel); else by the class's name",
    ),
    "service_account": Option(_name, None, "the pods' account; its token is never inside"),
    "node_selector": Option(_selector, None, "labels of the nodes, as label:value,label:value"),
    "pull_secret": Option(_name, None, "a secret of the namespace with the registry's password"),
    "pull": Option(_pull, "IfNotPresent", "when a node pulls the image: missing, always or never"),
    "template": Option(
        _file, None, "a file (YAML, JSON) with more of the pod: labels, tolerations, affinity, …"
    ),
    "cpu_request": Option(
        _share, None, "cpus that the scheduler sets aside for a session; else its cpu_limit"
    ),
    "ephemeral_mb": Option(
        _megabytes,
        1024,
        "MiB of the node's disk that a pod may use, its log included; past it the node evicts it",
    ),
    "seccomp": Option(
        _profile,
        None,
        "a filter of system calls by its path below the kubelets' seccomp folder, such as that of "
        "deploy/kubernetes/seccomp.json; else the runtime's own",
    ),
    "user_namespace": Option(
        _flag, False, "true: users of the pod's own (hostUsers: false), or no session"
    ),
    "probe_seconds": Option(
        _seconds, 1.0, "how long a session waits, as it opens, for an answer from outside"
    ),
}


def check_image(reference: str) -> str:
    """Return it, or raise ConfigError where no node could take it for an image."""
    if _IMAGE.match(reference):
        return reference
    raise ConfigError(
        f"image {reference!r:.100} is no image reference: write name, name:tag, name@digest or "
        "registry.example/name:tag."
    )


def read_template(path: str | None) -> dict[str, Any]:
    """What a template's file holds: ``metadata`` and ``spec`` of a pod. Raises ConfigError."""
    if path is None:
        return {}
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"template={path!r} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"template={path!r} must hold a pod's metadata and spec.")
    metadata, spec = found.get("metadata") or {}, found.get("spec") or {}
    wrong = [f"spec.{name}" for name in spec if name not in _TEMPLATE_SPEC]
    wrong += [f"metadata.{name}" for name in metadata if name not in ("labels", "annotations")]
    if wrong:
        raise ConfigError(
            f"template={path!r}: {', '.join(wrong)} may not be there; it may hold labels and "
            f"annotations, and of spec {', '.join(sorted(_TEMPLATE_SPEC))}."
        )
    return {"metadata": metadata, "spec": spec}
