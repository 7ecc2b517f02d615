"""What a session may reach, made of its configuration before anything of it starts."""

from __future__ import annotations

from pathlib import PurePosixPath

import attrs

from stockade.config import SandboxConfig, Secret
from stockade.errors import ConfigError
from stockade.toolkit.egress.names import Names
from stockade.toolkit.egress.opening import Opener, opener_of, with_port
from stockade.wall import OpenRequest, OutgoingRequest, RequestEnd, RequestWatch

__all__ = ["Unwatched", "WayOut"]

_Place = tuple[str, int]
#: Each is a place that the supervisor listens on.
_MOST_LOGINS = 60


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

    #: The home of programs inside, if the session's files alone are there: settings that lead
    #: them are written there.
    home: str | None = None

    @classmethod
    def of(cls, request: OpenRequest) -> WayOut | None:
        """None if the session may reach nothing, or everything.

        Called by walls in ``open`` and ``attach``, before they make anything: values of secrets
        are read here for the first time. Raises ConfigError, UnsupportedError, SecretError.
        """
        config = request.config
        if not config.network_allow and not config.secrets:
            return None
        places, logins = _places(config)
        every = (*config.network_allow, *(with_port(host) for _, host in _hosts(config)))
        try:
            names = Names.of(every)
        except ValueError as error:
            raise ConfigError(f"network_allow: {error}.") from None
        return cls(
            names=names,
            opener=opener_of(places, logins) if config.secrets else None,
            watch=request.watch or Unwatched(),
            home=None if _shown(config) else config.working_dir,
        )


def _shown(config: SandboxConfig) -> bool:
    """Whether the working folder is one of this machine's, or lies in one."""
    own = PurePosixPath(config.working_dir)
    return any(own.is_relative_to(mount.target) for mount in config.mounts)


def _hosts(config: SandboxConfig) -> list[tuple[Secret, str]]:
    return [(secret, host) for secret in config.secrets for host in secret.hosts]


def _places(
    config: SandboxConfig,
) -> tuple[dict[_Place, tuple[Secret, ...]], dict[_Place, tuple[tuple[Secret, str], ...]]]:
    """By name and port of a host its secrets, and its keys with their users. Raises ConfigError."""
    found: dict[_Place, tuple[Secret, ...]] = {}
    logins: dict[_Place, tuple[tuple[Secret, str], ...]] = {}
    for secret, host in _hosts(config):
        try:
            (place,) = Names.of([with_port(host)]).allowed
        except ValueError as error:
            raise ConfigError(f"the hosts of the secret {secret.name!r}: {error}.") from None
        if secret.signs:
            login = secret, host.rpartition("@")[0]
            logins[place] = (*logins.get(place, ()), login)
        else:
            found[place] = (*found.get(place, ()), secret)
    if len(logins) > _MOST_LOGINS:
        raise ConfigError(f"keys sign at {len(logins)} hosts, and {_MOST_LOGINS} are the most.")
    for name, port in found.keys() & logins.keys():
        raise ConfigError(f"{name}:{port} is named for ssh and for https: give one its own port.")
    return found, logins
