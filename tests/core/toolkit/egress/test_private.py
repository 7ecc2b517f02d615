"""Entries that lead to a private place, and words that are no entry (E10)."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from stockade.toolkit.egress import Gateway, Names, Private, RefusedError


def leading(*words: str) -> Gateway:
    def public(name: str, port: int) -> list[tuple[str, int]]:
        return [("1.1.1.1", port)]

    return Gateway(Names.of(words), resolver=public)


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def answer(_: str, port: int, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_loopback_and_an_address_need_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    gateway = leading("models:11434=loopback", "index=10.1.2.3", "six:1=fd00::7", "a.example")
    assert gateway.addresses("models", 11434) == [("127.0.0.1", 11434), ("::1", 11434)]
    assert gateway.addresses("index", 443) == [("10.1.2.3", 443)]
    assert gateway.addresses("index", 80) == [("10.1.2.3", 80)]
    assert gateway.addresses("six", 1) == [("fd00::7", 1)]
    assert gateway.addresses("a.example", 443) == [("1.1.1.1", 443)]  # as ever


def test_a_network_holds_all_that_a_name_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = leading("index.internal:443=10.0.0.0/8")
    resolved(monkeypatch, "10.9.9.9", "10.0.0.1")
    assert gateway.addresses("index.internal", 443) == [("10.9.9.9", 443), ("10.0.0.1", 443)]
    for others in (
        ("10.0.0.1", "192.168.0.1"),
        ("1.1.1.1",),
        ("169.254.169.254",),
        ("fd00::1",),
        ("fe80::1%eth0",),
        (),
    ):
        resolved(monkeypatch, *others)
        with pytest.raises(RefusedError, match="outside of 10.0.0.0/8"):
            gateway.addresses("index.internal", 443)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("a=0.0.0.0/0", "no private network"),
        ("a=169.254.169.254", "link-local ones stay closed"),
        ("a=169.254.0.0/16", "link-local ones stay closed"),
        ("a=8.8.8.8", "no private network"),
        ("a=10.0.0.0/7", "no private network"),
        ("a=::ffff:10.0.0.1", "no private network"),
        ("a=10.0.0.1/8", "expected loopback"),
        ("a=", "expected loopback"),
        ("a=localhost", "expected loopback"),
        ("10.0.0.1=10.0.0.1", "raw addresses"),
        ("10.0.0.1", "write name:port=ADDRESS"),
        ("https://api.example.com/v1", "write 'api.example.com'"),
        ("http://api.example.com:8080", "write 'api.example.com:8080'"),
        ("api.example.com/v1", "write 'api.example.com'"),
        ("api.example.com:http", "port 1 to 65535"),
    ],
)
def test_words_that_are_no_entry_say_what_to_write(word: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Names.of([word])
    assert repr(word) in str(caught.value)


def test_one_name_leads_to_one_place() -> None:
    with pytest.raises(ValueError, match="two places"):
        Names.of(["a:443=10.0.0.0/8", "a:443"])
    assert Names.of(["a:443=10.0.0.0/8", "a:443=10.0.0.0/8", "a:80"]).private("a", 80) is None
    assert Private.of("fc00::/7") == Private.of("fc00::/7")
