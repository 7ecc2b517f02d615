"""What the operator has named: templates, keys and limits, from a file or from options."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from stockade.errors import ConfigError
from stockade.system.own_files import parse_toml, read_own
from stockade.values.options import nearest
from stockade_server.keys import Key, check_name

__all__ = [
    "Settings",
    "Template",
    "append_key",
    "is_loopback",
    "read_settings",
]

_MIB = 1 << 20
_MOST_POOL = 1000
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?")
_TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


def _number(
    low: int, high: float = math.inf
) -> Callable[[object, attrs.Attribute[int], object], None]:
    allowed = f"a number from {low}" + ("" if high == math.inf else f" to {high}")

    def check(_: object, attribute: attrs.Attribute[int], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{attribute.name}={value!r} is not allowed: {allowed}.")

    return check


def _check_template(_: object, __: attrs.Attribute[str], name: str) -> None:
    if not isinstance(name, str) or not _TEMPLATE.fullmatch(name):
        raise ConfigError(
            f"{name!r:.80} is no name of a template: letters, digits and '_.:/-', 128 at most."
        )


def _check_truth(_: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{attribute.name}={value!r} is not allowed: true or false.")


@attrs.frozen(kw_only=True)
class Template:
    """What a caller may ask for: a name for a provider string of the operator's."""

    name: str = attrs.field(validator=_check_template)
    #: As in ``stockade.open``: a string, or several in the order of preference. Its limits and
    #: its ``lifetime_seconds`` are the most that a caller gets.
    provider: str | tuple[str, ...] = attrs.field(repr=False)
    #: Variables of every command, below the caller's own.
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)}>")
    #: Sandboxes that are started ahead; 0: each is started when it is asked for.
    pool: int = attrs.field(default=0, validator=_number(0, _MOST_POOL))
    #: Whether every port of a sandbox is reached where its wall can do that; otherwise those
    #: alone that the provider string names.
    open_ports: bool = attrs.field(default=True, validator=_check_truth)


def _check_text(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{attribute.name}={value!r} is not allowed: a text.")


def _check_file(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{attribute.name}={value!r} is not allowed: a path.")


def _check_domain(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value):
        raise ConfigError(
            f"{attribute.name}={value!r} is not allowed: a domain such as sandboxes.example.org, "
            "with :PORT where it is reached at another port than 443."
        )


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_proxies(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    import ipaddress

    words = f"{attribute.name} is a list of addresses and networks, such as 10.0.0.0/8"
    if not isinstance(value, tuple):
        raise ConfigError(f"{words}.")
    for one in value:
        try:
            ipaddress.ip_network(one if isinstance(one, str) else "")
        except ValueError:
            raise ConfigError(f"{words}; {one!r:.60} is none.") from None


@attrs.frozen(kw_only=True)
class Settings:
    """What a server serves, to whom, and how much of it. Raises ConfigError when built."""

    templates: Mapping[str, Template]
    keys: Mapping[str, Key] = attrs.field(factory=dict)
    #: Nobody needs a key. For loopback alone.
    insecure: bool = False
    host: str = attrs.field(default="127.0.0.1", validator=_check_text)
    port: int = attrs.field(default=3000, validator=_number(0, 65535))
    #: Below which each port of a sandbox has a host of its own, ``PORT-ID.DOMAIN``. It may end
    #: in ``:PORT``, the server's own. None: there are no such hosts.
    domain: str | None = attrs.field(default=None, validator=_check_domain)
    #: Files of a certificate, with those that signed it, and of its key: then it speaks HTTPS.
    tls_certificate: str | None = attrs.field(default=None, validator=_check_file)
    tls_key: str | None = attrs.field(default=None, validator=_check_file)
    #: A file, to whose end a line of JSON is written for each request. None: there is no log.
    access_log: str | None = attrs.field(default=None, validator=_check_file)
    #: Addresses, or networks, of proxies before this server. What they say of their callers
    #: (``X-Forwarded-For``, ``X-Forwarded-Proto``) is believed; of anybody else it is not.
    proxies: Sequence[str] = attrs.field(default=(), converter=_listed, validator=_check_proxies)
    #: A folder, in which durable sandboxes are kept track of. None: there are no durable ones.
    state: str | None = attrs.field(default=None, validator=_check_file)
    #: Sandboxes that a key may have at one time, unless the key says otherwise.
    max_sandboxes: int = attrs.field(default=20, validator=_number(1))
    #: Requests of a key, and to its sandboxes. None: as many as come.
    max_requests_per_second: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_number(1))
    )
    #: Snapshots that a key may have at one time, and the mebibytes that each may hold.
    max_snapshots: int = attrs.field(default=20, validator=_number(0))
    max_snapshot_mb: int = attrs.field(default=256, validator=_number(1, 65536))
    #: Commands and terminals that may run in one sandbox at one time.
    max_commands: int = attrs.field(default=128, validator=_number(1))
    #: Bytes of a request that is no upload.
    max_body_bytes: int = attrs.field(default=8 * _MIB, validator=_number(1024))
    #: Bytes of an upload, unpacked, and of one stream of input.
    max_upload_bytes: int = attrs.field(default=512 * _MIB, validator=_number(1024))
    #: Seconds for which a client may leave a body unfinished, or a stream unread.
    idle_seconds: int = attrs.field(default=60, validator=_number(1))

    def __attrs_post_init__(self) -> None:
        if not self.templates:
            raise ConfigError("there is no template; name one: --template base=local.")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("tls_certificate and tls_key belong together; name both.")
        if self.insecure and not is_loopback(self.host):
            raise ConfigError(
                f"--insecure serves loopback alone, and {self.host!r} is none; make a key with "
                "`stockade serve key add NAME --config FILE`."
            )
        if not self.keys and not self.insecure:
            raise ConfigError(
                "there is no key, so nobody could call; make one with "
                "`stockade serve key add NAME --config FILE`."
            )


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is this machine's own alone."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# -- the file ------------------------------------------------------------------

_LIMITS = (
    *("max_sandboxes", "max_snapshots", "max_snapshot_mb", "max_commands"),
    *("max_requests_per_second", "max_body_bytes", "max_upload_bytes", "idle_seconds"),
)
_TEXTS = ("host", "domain", "tls_certificate", "tls_key", "access_log", "state")
_INSTEAD = "name another file with --config"
_OTHERS = ("port", "proxies")
_KEYS = ("templates", "keys", *_OTHERS, *_TEXTS, *_LIMITS)


def read_settings(path: str) -> dict[str, Any]:
    """Fields of :class:`Settings` from the table ``[serve]`` of a file. Raises ConfigError.

    The file says which folders are mounted and whose keys are taken, so it must be this user's
    (or root's), and nobody else's to write.
    """
    table = parse_toml(path, _content(path), _INSTEAD).get("serve")
    if not isinstance(table, dict):
        raise ConfigError(f"{path} has no table [serve].")
    _known(path, "[serve]", table, _KEYS)
    found: dict[str, Any] = {
        name: table[name] for name in (*_LIMITS, *_TEXTS, *_OTHERS) if name in table
    }
    found["templates"] = {
        name: _template(path, name, given) for name, given in _tables(path, table, "templates")
    }
    found["keys"] = {name: _key(path, name, given) for name, given in _tables(path, table, "keys")}
    return found


def _content(path: str) -> bytes:
    try:
        data, foreign = read_own(path, group_writes=False)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if foreign:
        raise ConfigError(f"{path} is not used: {foreign}.")
    return data


def _known(path: str, where: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{path}: {where} has no key {key!r}{nearest(key, keys)}.")


def _tables(path: str, table: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    found = table.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ConfigError(f"{path}: [serve.{name}] holds tables, one a name.")
    return list(found.items())


def _template(path: str, name: str, given: dict[str, Any]) -> Template:
    where = f"[serve.templates.{name}]"
    _known(path, where, given, ("provider", "env", "pool", "open_ports"))
    provider, env = given.get("provider"), given.get("env", {})
    if isinstance(provider, list) and provider and all(isinstance(one, str) for one in provider):
        provider = tuple(provider)
    elif not isinstance(provider, str):
        raise ConfigError(f"{path}: provider of {where} is a string or a list of strings.")
    if not isinstance(env, dict) or not all(isinstance(one, str) for one in env.values()):
        raise ConfigError(f"{path}: env of {where} is a table of texts.")
    more = {key: given[key] for key in ("pool", "open_ports") if key in given}
    return Template(name=name, provider=provider, env=env, **more)


def _key(path: str, name: str, given: dict[str, Any]) -> Key:
    check_name(name)
    _known(path, f"[serve.keys.{name}]", given, ("sha256", "max_sandboxes"))
    most = given.get("max_sandboxes")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
        raise ConfigError(f"{path}: max_sandboxes of the key {name} is a whole number.")
    return Key(given.get("sha256", ""), most)


def append_key(path: str, name: str, sha256: str) -> None:
    """Add a key to a file, which is made, for this user alone, where there is none.

    Raises ConfigError where the name is taken, or the file would be none any more.
    """
    check_name(name)
    data = _content(path) if os.path.exists(path) else b""
    table = parse_toml(path, data, _INSTEAD).get("serve", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [serve] is a table; write it as one, or name another file.")
    if name in dict(_tables(path, table, "keys")):
        raise ConfigError(f"{path} has a key {name!r} already; take another name, or remove it.")
    start = b"\n" if data else b""
    if data and not data.endswith(b"\n"):
        start = b"\n\n"
    addition = start + f'[serve.keys."{name}"]\nsha256 = "{sha256}"\n'.encode()
    parse_toml(path, data + addition, _INSTEAD)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(addition)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
