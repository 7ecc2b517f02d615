"""What goes wrong with a pod, each with a class of its own.

Each is one of core's errors too, so whoever catches those need not know these.
"""

from __future__ import annotations

from stockade.errors import SandboxLostError, SandboxStartError

__all__ = [
    "AdmissionError",
    "EvictedError",
    "ImageError",
    "NodeLostError",
    "OpenNetworkError",
    "PodDeletedError",
    "QuotaError",
    "UnschedulableError",
]


class ImageError(SandboxStartError):
    """A node could not get the image, or nothing can be started from it."""


class QuotaError(SandboxStartError):
    """The namespace's quota is used up: retryable, since sessions end."""


class UnschedulableError(SandboxStartError):
    """No node had room in time, or none fits: retryable, since nodes come and sessions end."""


class AdmissionError(SandboxStartError):
    """The cluster refused the pod, or changed what makes it a wall; never retryable."""


class OpenNetworkError(SandboxStartError):
    """The network was to be off, and something answered from inside; never retryable."""


class EvictedError(SandboxLostError):
    """The node needed its room, or the pod used more of the node's disk than it may."""


class PodDeletedError(SandboxLostError):
    """Somebody deleted the pod, such as whoever drains its node."""


class NodeLostError(SandboxLostError):
    """The pod's node does not answer the cluster any more."""
