"""What a session may reach, made of its configuration before anything of it starts."""

from __future__ import annotations

import attrs

from stockade.config import SandboxConfig, Secret
from stockade.errors import ConfigError
from stockade.toolkit.egress.names import Names
from stockade.toolkit.egress.opening import Opener, opener_of, with_port
from stockade.wall import OpenRequest, OutgoingRequest, RequestEnd, RequestWatch

__all__ = ["Unwatched", "WayOut"]


class Unwatched(RequestWatch):
    """Nobody is asked, and nobody notified."""

    def judge(self, request: OutgoingRequest) -> None:
        return

    def ended(self, request: OutgoingRequest, end: RequestEnd) -> None:
        return


@attrs.frozen(kw_only=True)
class WayOut:
    """The named hosts, and the secrets that some of them get."""

    names: Names  #: what may be reached
    opener: Opener | None = None  #: for the hosts of secrets
    #: Asked about each request, and notified of its end.
    watch: RequestWatch = attrs.field(factory=Unwatched)

    @classmethod
    def of(cls, request: OpenRequest) -> WayOut | None:
        """None where the session may reach nothing, or everything.

        Called by walls in ``open`` and ``attach``, before they make anything: values of secrets
        are read here for the first time. Raises ConfigError, UnsupportedError, SecretError.
        """
        config = request.config
        if not config.network_allow and not config.secrets:
            return None
        places = _places(config)
        every = (*config.network_allow, *(with_port(host) for _, host in _hosts(config)))
        try:
            names = Names.of(every)
        except ValueError as error:
            raise ConfigError(f"network_allow: {error}.") from None
        return cls(
            names=names,
            opener=opener_of(config.secrets, places) if places else None,
            watch=request.watch or Unwatched(),
        )


def _hosts(config: SandboxConfig) -> list[tuple[Secret, str]]:
    return [(secret, host) for secret in config.secrets for host in secret.hosts]


def _places(config: SandboxConfig) -> dict[tuple[str, int], tuple[Secret, ...]]:
    """By name and port, the secrets of a host. Raises ConfigError."""
    found: dict[tuple[str, int], tuple[Secret, ...]] = {}
    for secret, host in _hosts(config):
        try:
            (place,) = Names.of([with_port(host)]).allowed
        except ValueError as error:
            raise ConfigError(f"the hosts of the secret {secret.name!r}: {error}.") from None
        found[place] = (*found.get(place, ()), secret)
    return found
