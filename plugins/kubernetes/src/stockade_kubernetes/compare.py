"""Whether the pod that the cluster made is the one that was asked for.

Admission controllers may change a pod: add a container that shares its network, give it an
account's token, lift a limit. What makes it a wall must be as it was sent; what only says where
it runs may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["changes"]

#: Lists that nothing may be added to, each by what its entries are told apart by.
_CLOSED = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "env": "name",
}
#: Fields that were left out and must stay so.
_ABSENT_SPEC = ("ephemeralContainers", "hostAliases", "resourceClaims")
_ABSENT_CONTAINER = (
    "envFrom",
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "startupProbe",
    "volumeDevices",
)
_SECURITY = ("procMount", "windowsOptions", "supplementalGroups", "fsGroup", "sysctls")
#: A container has the pod's own: what it states itself is instead of that.
_SECURITY_CONTAINER = (*_SECURITY, "runAsUser", "runAsGroup")
#: What a cluster writes in a way of its own, or may choose.
_FREE = frozenset({"image", "imagePullPolicy"})
#: What the API leaves out where it is false; of all others leaving them out says something else.
_FALSE = frozenset({"hostIPC", "hostNetwork", "hostPID", "privileged", "shareProcessNamespace"})
_FALSE |= {"stdin", "stdinOnce", "tty"}


def changes(sent: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """What differs in the ``spec`` of two pods so that the wall is not what was asked for."""
    found: list[str] = []
    _compare("spec", sent, got, found)
    _absent("spec", got, _ABSENT_SPEC, found)
    _security("spec", got, _SECURITY, found)
    for kind in ("containers", "initContainers"):
        for one in got.get(kind) or ():
            where = f"spec.{kind}[{one.get('name')}]"
            _absent(where, one, _ABSENT_CONTAINER, found)
            _security(where, one, _SECURITY_CONTAINER, found)
    if "initContainers" not in sent and got.get("initContainers"):
        found.append("spec.initContainers was set")
    return found


def _absent(where: str, got: Mapping[str, Any], names: tuple[str, ...], found: list[str]) -> None:
    found += [f"{where}.{name} was set" for name in names if got.get(name)]


def _security(where: str, got: Mapping[str, Any], names: tuple[str, ...], found: list[str]) -> None:
    where, said = f"{where}.securityContext", got.get("securityContext") or {}
    # A user or group 0 was set, too.
    found += [f"{where}.{name} was set" for name in names if said.get(name) not in (None, [], {})]
    if (said.get("capabilities") or {}).get("add"):
        found.append(f"{where}.capabilities.add was set")
    # A profile may be added that allows less; these two allow more than the runtime's own.
    if (said.get("appArmorProfile") or {}).get("type") == "Unconfined":
        found.append(f"{where}.appArmorProfile is Unconfined")
    if (said.get("seLinuxOptions") or {}).get("type"):
        found.append(f"{where}.seLinuxOptions.type was set")


def _compare(where: str, sent: Any, got: Any, found: list[str]) -> None:
    if isinstance(sent, Mapping):
        if not isinstance(got, Mapping):
            found.append(f"{where} is gone")
            return
        for name, value in sent.items():
            if name not in _FREE:
                _compare(f"{where}.{name}", value, got.get(name), found)
    elif isinstance(sent, list):
        _compare_lists(where, sent, got or [], found)
    elif got is None and sent is False and where.rpartition(".")[2] in _FALSE:
        return
    elif not _same(sent, got):
        found.append(f"{where} is {got!r} and not {sent!r}")


def _compare_lists(where: str, sent: list[Any], got: list[Any], found: list[str]) -> None:
    key = _CLOSED.get(where.rpartition(".")[2])
    if sent and isinstance(sent[0], str):
        if sent != got:
            found.append(f"{where} is {got!r} and not {sent!r}")
        return
    if key is None:
        found += [f"{where} lacks {one!r}" for one in sent if one not in got]
        return
    known = {one[key]: one for one in got}
    for one in sent:
        _compare(f"{where}[{one[key]}]", one, known.pop(one[key], None), found)
    found += [f"{where}[{name}] was added" for name in known]


def _same(sent: Any, got: Any) -> bool:
    if sent == got:
        return True
    if not isinstance(sent, str) or not isinstance(got, (str, int, float)):
        return False
    from kubernetes.utils import parse_quantity

    try:
        return bool(parse_quantity(sent) == parse_quantity(got))
    except ValueError:
        return False
