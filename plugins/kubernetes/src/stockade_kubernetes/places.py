"""From options, environment and kubeconfig to a cluster, and a word that leads there again."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import attrs

from stockade.errors import ConfigError, ProviderUnavailableError
from stockade.system.forks import FreshLock, in_child
from stockade.wall import Place
from stockade_kubernetes.cluster import Cluster

if TYPE_CHECKING:
    from kubernetes.client import Configuration

__all__ = ["Where", "cluster_at"]

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_clusters: dict[Where, Cluster] = {}
_lock = FreshLock()


@attrs.frozen
class Where:
    """What leads to a cluster and a namespace in it; no secret."""

    context: str | None = None  #: of the kubeconfig; None: its current one
    kubeconfig: str | None = None  #: a path, or what KUBECONFIG holds; None: the usual one
    namespace: str | None = None  #: None: the context's or the account's own
    in_cluster: bool = False  #: by the account of the pod that this process runs in

    @classmethod
    def of(cls, chosen: Mapping[str, Any]) -> Where:
        """As the options and the environment lead now."""
        file = chosen["kubeconfig"] or os.environ.get("KUBECONFIG") or None
        named = chosen["context"] or file
        inside = not named and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        return cls(
            context=chosen["context"],
            kubeconfig=file,
            namespace=chosen["namespace"],
            in_cluster=inside and os.path.exists(f"{_ACCOUNT}/token"),
        )

    def place(self) -> Place:
        """Where sessions made now live. Raises ConfigError."""
        cluster = cluster_at(self)
        said = {
            "namespace": cluster.namespace,
            "context": self.context or "",
            "kubeconfig": self.kubeconfig or "",
            "account": "1" if self.in_cluster else "",
        }
        word = f"{cluster.server}?{urlencode({key: text for key, text in said.items() if text})}"
        local = urlsplit(cluster.server).hostname in ("localhost", "127.0.0.1", "::1")
        return Place.here(word) if local else Place.anywhere(word)

    @classmethod
    def from_place(cls, place: Place) -> Where:
        """Of a place that ``place`` gave. Raises ProviderUnavailableError where what led there
        leads elsewhere by now."""
        url, _, query = place.word.partition("?")
        said = {name: values[0] for name, values in parse_qs(query).items()}
        where = cls(
            context=said.get("context"),
            kubeconfig=said.get("kubeconfig"),
            namespace=said.get("namespace"),
            in_cluster=said.get("account") == "1",
        )
        try:
            server = cluster_at(where).server
        except ConfigError as error:
            raise ProviderUnavailableError(str(error)) from error
        if server != url:
            raise ProviderUnavailableError(
                f"the session's pod lives in the cluster at {url}, and the kubeconfig leads to "
                f"{server} by now; name the context that leads there."
            )
        return where


def cluster_at(where: Where) -> Cluster:
    """The cluster, shared by its sessions. Raises ConfigError where nothing leads to one."""
    with _lock:
        found = _clusters.get(where)
        if found is None:
            found = _clusters[where] = _loaded(where)
        return found


def _forget() -> None:
    _clusters.clear()


# Connections are the parent's.
in_child(_forget)


def _loaded(where: Where) -> Cluster:
    from kubernetes import config

    try:
        configuration = _configuration(where)
        if where.in_cluster:
            with open(f"{_ACCOUNT}/namespace", encoding="utf-8") as file:
                own = file.read().strip()
        else:
            own = _namespace_of(where)
    except (config.ConfigException, OSError) as error:
        raise ConfigError(
            f"no cluster is configured: {error}. Set KUBECONFIG, or kubeconfig and context in the "
            "provider string."
        ) from error
    again = functools.partial(_configuration, where)
    return Cluster(configuration, where.namespace or own or "default", again)


def _configuration(where: Where) -> Configuration:
    """As the client reads it now. Raises its ConfigException, OSError."""
    from kubernetes import config
    from kubernetes.client import Configuration

    found = Configuration()
    if where.in_cluster:
        config.load_incluster_config(client_configuration=found)
    else:
        config.load_kube_config(
            config_file=where.kubeconfig,
            context=where.context,
            client_configuration=found,
            persist_config=False,
        )
    return found


def _namespace_of(where: Where) -> str:
    from kubernetes import config

    contexts, current = config.list_kube_config_contexts(config_file=where.kubeconfig)
    for one in contexts:
        if one["name"] == (where.context or current["name"]):
            return str((one.get("context") or {}).get("namespace") or "")
    return ""
