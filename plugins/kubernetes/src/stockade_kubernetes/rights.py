"""Whether the cluster answers and who asks may do what a session needs (A8)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from stockade.wall import Check
from stockade_kubernetes.cluster import Cluster, ClusterError

__all__ = ["RIGHTS", "checks"]

_ASK_SECONDS = 8.0
#: How long a right that was there is taken to be there still.
_KNOWN_SECONDS = 300.0

#: Verb, group, resource, subresource; and what it is for. The last column: a session opens
#: without it.
RIGHTS: tuple[tuple[str, str, str, str, str, bool], ...] = (
    ("create", "", "pods", "", "sessions", False),
    ("get", "", "pods", "", "sessions", False),
    ("watch", "", "pods", "", "sessions", False),
    ("list", "", "pods", "", "gc, and pods that die with their nodes", False),
    ("delete", "", "pods", "", "the end of sessions", False),
    ("get", "", "pods", "attach", "sessions", False),
    ("create", "", "pods", "attach", "sessions in newer clusters", False),
    ("get", "", "pods", "exec", "durable sessions", True),
    ("create", "", "pods", "exec", "durable sessions in newer clusters", True),
    ("list", "", "events", "", "why a pod does not start", True),
    ("create", "networking.k8s.io", "networkpolicies", "", "closing the network", True),
)
_GRANT = (
    "kubectl apply -n {} -f deploy/kubernetes/role.yaml, or add the rule to the Role that is there"
)


def checks(cluster: Cluster, runtime_class: str | None) -> tuple[Check, ...]:
    """What was looked at; nothing is started."""
    try:
        version = cluster.ask("GET", "/version", seconds=_ASK_SECONDS, again=False)
    except ClusterError as error:
        if error.status in (401, 403):
            remedy = "log in again, or name another context of the kubeconfig"
            return (Check("account", False, f"{cluster.server}: {error}", remedy),)
        remedy = "see that the API server runs, and that kubeconfig and context lead to it"
        return (Check("cluster", False, str(error), remedy, transient=True),)
    said = f"Kubernetes {version.get('gitVersion')} at {cluster.server}"
    found = [Check("cluster", True, f"{said}, namespace {cluster.namespace}")]
    found += _rights(cluster)
    if runtime_class is not None:
        found += _runtime(cluster, runtime_class)
    return tuple(found)


def _rights(cluster: Cluster) -> list[Check]:
    known: list[Check] | None = cluster.known("rights", _KNOWN_SECONDS)
    if known is not None:
        return known
    try:
        with ThreadPoolExecutor(4, thread_name_prefix="stockade-rights") as pool:
            answers = list(pool.map(lambda right: _may(cluster, *right[:4]), RIGHTS))
    except ClusterError as error:
        return [Check("rights", False, str(error), "", transient=error.soon)]
    found = []
    for (verb, group, resource, sub, purpose, spared), (yes, why) in zip(
        RIGHTS, answers, strict=True
    ):
        what = f"{resource}/{sub}" if sub else resource
        if not yes:
            text = f"may not {verb} {what}{f' of {group}' if group else ''}: {purpose}. {why}"
            found.append(Check("rights", spared, text.strip(), _GRANT.format(cluster.namespace)))
    if found:
        return found
    whole = Check("rights", True, f"all {len(RIGHTS)} that sessions use")
    return list(cluster.keep("rights", [whole]))


def _may(cluster: Cluster, verb: str, group: str, resource: str, sub: str) -> tuple[bool, str]:
    attributes = {
        "namespace": cluster.namespace,
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": sub,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status = cluster.ask("POST", path, body, seconds=_ASK_SECONDS)["status"]
    return bool(status.get("allowed")), str(status.get("reason") or "")


def _runtime(cluster: Cluster, name: str) -> list[Check]:
    try:
        path = f"/apis/node.k8s.io/v1/runtimeclasses/{name}"
        found = cluster.ask("GET", path, seconds=_ASK_SECONDS, again=False)
    except ClusterError as error:
        if error.gone:
            remedy = "kubectl get runtimeclasses lists those that there are"
            return [Check("runtime", False, f"the cluster has no RuntimeClass {name!r}", remedy)]
        return []  # who asks may not look: the cluster refuses the pod then
    return [Check("runtime", True, f"RuntimeClass {name}, handler {found.get('handler')}")]
