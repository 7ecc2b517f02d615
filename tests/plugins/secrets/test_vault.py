"""Where values come from, and that they show nowhere (B4, E11)."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback
from pathlib import Path

import pytest

from stockade.config import SandboxConfig, Secret
from stockade.errors import ConfigError, SecretError
from stockade_secrets.vault import Vault

VALUE = "a-value-of-16-ch"


def value_of(secret: Secret) -> str:
    return Vault([secret]).value(secret.name)


def test_every_source_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(VALUE + "\n")
    monkeypatch.setenv("A_KEY", VALUE)
    printing = f"print({VALUE!r})"
    for source in (
        "env:A_KEY",
        f"file:{file}",
        f'command:{sys.executable} -c "{printing}"',
        [sys.executable, "-c", printing],
        lambda: VALUE,
    ):
        assert value_of(Secret("a", source, hosts=["a.org"])) == VALUE


BROKEN = {
    "no variable": "env:NOT_THERE_AT_ALL",
    "no file": "file:/not/there",
    "no program": "command:/not/there",
    "a program that fails": [sys.executable, "-c", f"print({VALUE!r}); raise SystemExit(3)"],
    "too short": lambda: "short",
    "two lines": lambda: f"{VALUE}\n{VALUE}",
    "not ASCII": lambda: VALUE + "é",
    "no text": lambda: 5,
    "no keyring": "keyring:service/user",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_source_that_fails_is_named_without_the_value(source: object) -> None:
    secret = Secret("mine", source, hosts=["a.org"])
    with pytest.raises(SecretError, match="'mine' cannot be read") as caught:
        value_of(secret)
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_what_a_callable_raises_is_not_shown() -> None:
    def raising() -> str:
        raise RuntimeError(f"could not use {VALUE}")

    with pytest.raises(SecretError) as caught:
        value_of(Secret("a", raising, hosts=["a.org"]))
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_a_value_is_kept_for_its_time_and_read_anew_where_it_was_refused() -> None:
    now, read = [0.0], list[str]()

    def source() -> str:
        read.append(f"{VALUE}-{len(read)}")
        return read[-1]

    vault = Vault([Secret("a", source, hosts=["a.org"], cache_seconds=10)], lambda: now[0])
    assert [vault.value("a"), vault.value("a")] == [f"{VALUE}-0"] * 2
    now[0] = 10.0
    assert vault.value("a") == f"{VALUE}-1"
    vault.forget("a")
    assert vault.value("a") == f"{VALUE}-2"
    assert set(vault.known()) == set(read), "older ones are masked as well"


def test_the_value_in_use_stays_known_however_often_another_one_changes() -> None:
    """Else a short-lived token would push a long-lived one out of what is masked."""
    values = iter(f"{VALUE}-{number}" for number in range(99))
    changing = Secret("b", lambda: next(values), hosts=["a.org"], cache_seconds=0)
    vault = Vault([Secret("a", lambda: VALUE, hosts=["a.org"]), changing])
    vault.value("a")
    newest = [vault.value("b") for _ in range(99)][-1]
    assert {VALUE, newest} <= set(vault.known()) and len(vault.known()) < 50


def test_a_value_that_comes_again_counts_as_new() -> None:
    values = iter([VALUE, *(f"{VALUE}-{number}" for number in range(15)), VALUE, f"{VALUE}-x"])
    vault = Vault([Secret("a", lambda: next(values), hosts=["a.org"], cache_seconds=0)])
    for _ in range(18):
        vault.value("a")
    assert VALUE in vault.known()


def test_nothing_shows_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", VALUE)
    secret = Secret("a", env="A_KEY", hosts=["a.org"])
    vault = Vault([secret])
    assert vault.value("a") == VALUE
    config = SandboxConfig(secrets=(secret,))
    for shown in (repr(vault), repr(secret), repr(config), str(secret), str(pickle.dumps(config))):
        assert VALUE not in shown
    with pytest.raises(TypeError):
        pickle.dumps(vault)
    with pytest.raises(TypeError):
        copy.deepcopy(vault)
    command = Secret("c", f"command:op read {VALUE}", hosts=["a.org"])
    assert VALUE not in repr(command) and "op" in repr(command)


@pytest.mark.parametrize(
    "secret",
    [
        Secret("a", env="A", hosts=["a.org"]),
        Secret("b", "file:/a b/c;d,e@f", hosts=["a.org:8443=10.0.0.0/8", "b.org"], query="key"),
        Secret("c", ["op", "read", "x;y,z"], hosts=["a.org"], header="X-Key", methods=["GET"]),
        Secret(
            "d",
            "command:pass show 'a b'",
            hosts=["a.org"],
            format="Bearer {value}",
            paths=["/a/*", "/b"],
            cache_seconds=0,
            prefix="sk-",
            uninspected="pass",
        ),
    ],
    ids=lambda secret: secret.name,
)
def test_the_text_and_the_secret_are_the_same(secret: Secret) -> None:
    assert Secret.parse(str(secret)) == secret


def test_the_short_form_has_the_defaults() -> None:
    found = Secret.parse("github=env:GITHUB_TOKEN@api.github.com,github.com")
    assert found == Secret("github", env="GITHUB_TOKEN", hosts=["api.github.com", "github.com"])
    assert (found.header, found.basic, found.source) == (
        "Authorization",
        True,
        "env:GITHUB_TOKEN",
    )
    assert Secret.parse("my-key=file:/a@b.org").env == "MY_KEY"


WRONG = ["github", "github=env:A", "a=nowhere:x@a.org", "a=env:A@", "a=env:A@b.org;colour=red"]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_secret_says_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError):
        Secret.parse(text)
    with pytest.raises(ConfigError) as caught:
        Secret.parse(f"github={VALUE}")
    assert VALUE not in str(caught.value), "a value that was put there by mistake"


WRONG_FIELDS = {
    "no name": ({"name": None}, "name=None"),
    "no prefix": ({"prefix": None}, "prefix=None"),
    "a command of nothing": ({"source": "command: "}, "cannot be split"),
    "a command with an open quote": ({"source": f"command:op '{VALUE}"}, "cannot be split"),
    "a command with NUL": ({"source": ["op", "a\0b"]}, "without NUL"),
    "a time without an end": ({"cache_seconds": float("inf")}, "from 0 to 2592000"),
    "a time that is none": ({"cache_seconds": True}, "from 0 to 2592000"),
}


@pytest.mark.parametrize(("fields", "words"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_a_field_that_is_wrong_is_named_when_it_is_built(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Secret(**{"name": "a", "env": "A", "hosts": ["a.org"], **fields})  # type: ignore[arg-type]
    assert VALUE not in str(caught.value)


def test_a_text_means_yes_and_no_as_every_option_does() -> None:
    for word in ("on", "yes", "True", "1"):
        assert Secret.parse(f"a=env:A@a.org;basic={word}").basic
    for part in ("basic=perhaps", "cache_seconds=1_0"):
        with pytest.raises(ConfigError, match=part.partition("=")[0]):
            Secret.parse(f"a=env:A@a.org;{part}")


def test_what_contradicts_is_refused() -> None:
    secret = Secret("a", env="A", hosts=["a.org"])
    for fields in (
        {"network_enabled": True},
        {"env_vars": {"A": "x"}},
        {"secrets": (secret, Secret("a", env="B", hosts=["a.org"]))},
        {"secrets": (secret, Secret("b", env="A", hosts=["a.org"]))},
        {"secrets": (Secret("a", lambda: VALUE, hosts=["a.org"]),), "durable": True},
    ):
        with pytest.raises(ConfigError):
            SandboxConfig(**{"secrets": (secret,), **fields})  # type: ignore[arg-type]
