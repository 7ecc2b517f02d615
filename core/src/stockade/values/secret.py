"""A secret of the host's that code may use and never sees (E11): where it is, where it goes.

Nothing here holds the value. It is read by the gateway, when a request needs it, in the process
that holds the session.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote, unquote

import attrs

from stockade.errors import ConfigError
from stockade.values.numbers import bounded
from stockade.values.options import as_bool, as_float, nearest

__all__ = ["SECRET_KINDS", "Secret", "as_secrets"]

#: The words before the colon of a source.
SECRET_KINDS = ("env", "file", "command", "keyring")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VARIABLE_OR_NONE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_PRINTABLE = re.compile(r"[\x20-\x7e]*\Z")
_PATH = re.compile(r"[^\0]*\Z")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,32}\Z")
_VALUE = "{value}"
#: Whose login a key signs, and where: ``git@github.com``.
_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@[^@]+\Z")
#: A source, and hosts of which each has a user.
_SIGNS = re.compile(r"(?P<source>.*?)@(?P<hosts>[^@,]+@[^@,]+(?:,[^@,]+@[^@,]+)*)\Z", re.DOTALL)
_SSH = "ssh:"
_FORM = (
    "write NAME=KIND:WHERE@HOST[,HOST…][;FIELD=VALUE…], such as "
    "github=env:GITHUB_TOKEN@api.github.com, or NAME=ssh:KIND:WHERE@USER@HOST for a private key"
)
#: Which answers of a secret's hosts come in when nobody can look into them.
_UNINSPECTED = ("refuse", "pass")

Source = str | tuple[str, ...] | Callable[[], str]


def _wrong(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"a secret's {field}={value!r:.80} is not allowed: {allowed}.")


def _words(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise _wrong("fields", value, "a sequence of texts belongs there: put it in a tuple")
    return tuple(value)


def _source(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shown(source: Source | None) -> str:
    """Without a command's arguments, which may hold what should not show (B4)."""
    if isinstance(source, str):
        kind, _, where = source.partition(":")
        return repr(f"command:{where.split()[0]} …" if kind == "command" and where else source)
    if isinstance(source, tuple):
        return f"<command {source[0]!r}>" if source else "<command>"
    return "<callable>" if source is not None else "None"


def _matches(pattern: re.Pattern[str], allowed: str, *, optional: bool = False) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str) or not pattern.match(value):
            raise _wrong(attribute.name, value, allowed)

    return check


def _several(pattern: re.Pattern[str], allowed: str) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        for one in value:
            if not isinstance(one, str) or not pattern.match(one):
                raise _wrong(attribute.name, one, allowed)

    return check


def _flag(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(attribute.name, value, "True or False")


def _one_of(words: Sequence[str]) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in words:
            raise _wrong(attribute.name, value, " or ".join(map(repr, words)))

    return check


@attrs.frozen
class Secret:
    """What code may use at some hosts and never sees; the value itself is never kept in it.

    Inside stands a placeholder, random for each session, which the gateway replaces on requests
    to ``hosts`` alone. It stands where the secret belongs: in the header, in basic
    authentication, in a parameter of the query. Without any of the three it is the header
    ``Authorization``, basic authentication in it included.

    Raises ConfigError, naming field and value and what is allowed, when built.

    A secret whose hosts have users is a private key: it signs for these logins by SSH, by an
    agent's socket inside, and no placeholder stands for it.

    >>> Secret("github", env="GITHUB_TOKEN", hosts=["api.github.com"]).source
    'env:GITHUB_TOKEN'
    >>> Secret("deploy", "file:~/.ssh/deploy", hosts=["git@github.com"]).signs
    True
    """

    #: Your word for it, in messages, events and policies.
    name: str = attrs.field(validator=_matches(_NAME, "letters, digits, '_', '.', '-', 64 at most"))
    #: Where its value is: ``env:VARIABLE``, ``file:PATH``, ``command:LINE`` (split as a shell
    #: does, run without one), ``keyring:SERVICE/USER`` (extra), an argument vector, or a callable.
    #: Default: the host's variable of the same name as ``env``.
    source: Source = attrs.field(default=None, converter=_source, repr=_shown)
    #: Where it is sent: ``name`` (port 443) or ``name:port``, ``=PLACE`` as in ``network_allow``.
    #: Of a private key the logins that it signs: ``user@name`` (port 22) or ``user@name:port``.
    hosts: tuple[str, ...] = attrs.field(default=(), converter=_words, kw_only=True)
    #: The variable inside that is set to the placeholder. Default: the variable that is read, of
    #: a source ``env:``, else the name in capitals.
    env: str = attrs.field(
        default="", validator=_matches(_VARIABLE_OR_NONE, "a variable's name"), kw_only=True
    )
    #: The header in which it belongs.
    header: str | None = attrs.field(
        default=None, validator=_matches(_TOKEN, "a header's name", optional=True), kw_only=True
    )
    #: The parameter of the query in which it belongs.
    query: str | None = attrs.field(
        default=None, validator=_matches(_TOKEN, "a parameter's name", optional=True), kw_only=True
    )
    #: Whether it may be the user or the password of basic authentication.
    basic: bool = attrs.field(default=False, validator=_flag, kw_only=True)
    #: The header's whole value, ``{value}`` standing for the secret; None: wherever it stands.
    format: str | None = attrs.field(
        default=None, validator=_matches(_PRINTABLE, "printable ASCII", optional=True), kw_only=True
    )
    #: Methods with which it is sent; none stated: with any.
    methods: tuple[str, ...] = attrs.field(
        default=(),
        converter=_words,
        validator=_several(re.compile(r"[A-Z]+\Z"), "methods in capitals, such as 'GET'"),
        kw_only=True,
    )
    #: Paths with which it is sent, ``*`` standing for anything; none stated: with any.
    paths: tuple[str, ...] = attrs.field(
        default=(),
        converter=_words,
        validator=_several(re.compile(r"/[\x21-\x7e]*\Z"), "paths that begin with '/'"),
        kw_only=True,
    )
    #: Seconds for which a value that was read is used again.
    cache_seconds: float = attrs.field(
        default=300.0, validator=bounded(0, 86_400 * 30), kw_only=True
    )
    #: How the placeholder begins, where programs look at that, such as ``sk-``.
    prefix: str = attrs.field(
        default="",
        validator=_matches(_PREFIX, "letters, digits, '_' and '-', 32 at most"),
        kw_only=True,
    )
    #: ``refuse`` or ``pass`` answers whose content nobody can look into, such as ``br``.
    uninspected: str = attrs.field(default="refuse", validator=_one_of(_UNINSPECTED), kw_only=True)
    #: Of a private key: the file that names its hosts' keys. Default: this user's and the
    #: machine's ``known_hosts``.
    known_hosts: str = attrs.field(
        default="", validator=_matches(_PATH, "a path without NUL"), kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if not self.source and self.env:  # it was not stated
            self._set("source", f"env:{self.env}")
        if isinstance(self.source, str) and self.source.startswith(_SSH):
            self._set("source", self.source[len(_SSH) :])
            if not self.signs:
                raise _wrong("hosts", self.hosts, "a key signs for logins: USER@HOST")
        self._check_source()
        if self.signs:
            self._check_logins()
            return
        if self.known_hosts:
            raise _wrong("known_hosts", self.known_hosts, "it belongs to a key: USER@HOST")
        if not self.env:
            self._set("env", self._variable())
        if not self.hosts or not all(isinstance(host, str) and host for host in self.hosts):
            raise _wrong("hosts", self.hosts, "one host at least, such as 'api.github.com'")
        if self.format is not None and self.format.count(_VALUE) != 1:
            raise _wrong("format", self.format, "'{value}' once, such as 'Bearer {value}'")
        if self.header is None and self.query is None and not self.basic:
            self._set("header", "Authorization")
            if self.format is None:
                self._set("basic", True)
        if self.format is not None and self.header is None:
            raise _wrong("format", self.format, "it belongs to a header: name one")

    @property
    def signs(self) -> bool:
        """Whether it is a private key, which signs for logins by SSH."""
        return any(isinstance(host, str) and "@" in host for host in self.hosts)

    def _check_logins(self) -> None:
        for host in self.hosts:
            if not isinstance(host, str) or not _LOGIN.match(host):
                raise _wrong("hosts", host, "a key signs for logins: USER@HOST, and nothing else")
        if self.env and self.source == f"env:{self.env}":
            self._set("env", "")
        for field in _OF_VALUES:
            default = attrs.fields_dict(Secret)[field].default
            if getattr(self, field) != default:
                words = "it belongs to a value, and a key (USER@HOST) only signs: leave it out"
                raise _wrong(field, getattr(self, field), words)

    def _set(self, field: str, value: object) -> None:
        """A default that follows from other fields; only while it is built."""
        object.__setattr__(self, field, value)

    def _variable(self) -> str:
        kind, _, where = self.source.partition(":") if isinstance(self.source, str) else ("",) * 3
        if kind == "env" and _VARIABLE.match(where):
            return where
        plain = re.sub(r"[^A-Z0-9]", "_", self.name.upper())
        return plain if _VARIABLE.match(plain) else f"_{plain}"

    def _check_source(self) -> None:
        source = self.source
        if callable(source):
            return
        if isinstance(source, tuple):
            if not source or not all(
                isinstance(word, str) and word and "\0" not in word for word in source
            ):
                raise ConfigError(
                    f"the command of the secret {self.name!r} is no sequence of texts, one at "
                    "least, without NUL: write a program and its arguments."
                )
            return
        kind, colon, where = source.partition(":") if isinstance(source, str) else ("", "", "")
        if kind not in SECRET_KINDS or not colon or not where or "\0" in where:
            known = ", ".join(f"{kind}:…" for kind in SECRET_KINDS)
            raise ConfigError(
                f"the secret {self.name!r} has no source that is known{nearest(kind, SECRET_KINDS)}"
                f": expected {known}, an argument vector or a callable."
            )
        if kind == "command" and not _split(where):
            raise ConfigError(
                f"the command of the secret {self.name!r} cannot be split into words: close its "
                "quotes, or give an argument vector."
            )

    @classmethod
    def parse(cls, text: str) -> Secret:
        """From ``NAME=KIND:WHERE@HOST[,HOST…][;FIELD=VALUE…]``, of a private key
        ``NAME=ssh:KIND:WHERE@USER@HOST[,USER@HOST…]``; ``%`` encodes in each part.

        Raises ConfigError; what was written is not repeated beyond the name, since it may be
        the value by mistake.
        """
        name, equals, rest = text.partition("=")
        rest, *more = rest.split(";")
        source, at, hosts = rest.rpartition("@")
        if rest.startswith(_SSH) and (login := _SIGNS.match(rest)):
            source, hosts = login["source"], login["hosts"]
        if not equals or not at:
            raise ConfigError(
                f"the secret {name.partition(':')[0]!r:.70} is not complete: {_FORM}."
            )
        fields: dict[str, Any] = {}
        for part in more:
            field, _, value = part.partition("=")
            if field not in _TEXTS:
                known = ", ".join(_TEXTS)
                raise ConfigError(
                    f"the secret {name!r:.70} has no field {field!r:.40}{nearest(field, _TEXTS)}; "
                    f"the fields are {known}."
                )
            try:
                fields[field] = _TEXTS[field](value)
            except ValueError as error:
                raise _wrong(field, value, str(error)) from None
        words: Source = unquote(source)
        if source.removeprefix(_SSH).startswith("argv:"):
            words = tuple(unquote(word) for word in source.removeprefix(_SSH)[5:].split(","))
        return cls(
            unquote(name), words, hosts=[unquote(host) for host in hosts.split(",")], **fields
        )

    def __str__(self) -> str:
        """The text that :meth:`parse` reads. Raises ConfigError for a callable."""
        if callable(self.source):
            raise ConfigError(
                f"the secret {self.name!r} comes from a callable, which no other process has: "
                "name a source in words (env, file, command, keyring)."
            )
        if isinstance(self.source, tuple):
            source = "argv:" + ",".join(quote(word, safe="/") for word in self.source)
        else:
            source = quote(self.source, safe=":/ ")
        hosts = ",".join(quote(host, safe=":/=") for host in self.hosts)
        fields = [f"{field}={_text(getattr(self, field))}" for field in _TEXTS]
        return ";".join([f"{quote(self.name)}={source}@{hosts}", *fields])

    def command(self) -> tuple[str, ...] | None:
        """The argument vector of a source that is a command, else None."""
        if isinstance(self.source, tuple):
            return self.source
        if isinstance(self.source, str) and self.source.startswith("command:"):
            return _split(self.source.partition(":")[2])
        return None


def _split(line: str) -> tuple[str, ...]:
    """Words as a shell has them; none if it would read on."""
    try:
        return tuple(shlex.split(line))
    except ValueError:
        return ()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(quote(one, safe="/*") for one in value)
    return "" if value is None else quote(str(value), safe="/* {}")


def _some(text: str) -> str | None:
    return unquote(text) or None


def _list(text: str) -> tuple[str, ...]:
    return tuple(unquote(one) for one in text.split(",") if one)


#: The fields that a text may set, and what reads them.
_TEXTS: dict[str, Callable[[str], Any]] = {
    "env": unquote,
    "header": _some,
    "query": _some,
    "basic": as_bool,
    "format": _some,
    "methods": _list,
    "paths": _list,
    "cache_seconds": as_float,
    "prefix": unquote,
    "uninspected": unquote,
    "known_hosts": unquote,
}
#: Those that say how a value goes into a request.
_OF_VALUES = (
    "env",
    "header",
    "query",
    "basic",
    "format",
    "methods",
    "paths",
    "prefix",
    "uninspected",
)


def as_secrets(text: str) -> tuple[Secret, ...]:
    """Secrets of a provider string, separated by commas, each encoded once more."""
    return tuple(Secret.parse(unquote(part)) for part in text.split(",") if part)
