"""Where a name may lead: to the public internet alone (E10)."""

from __future__ import annotations

import socket

import pytest

from stockade.toolkit.egress import RefusedError, is_public, resolve

PUBLIC = {
    "IPv4": "1.1.1.1 93.184.216.34 126.255.255.255 128.0.0.1 223.255.255.255",
    "beside what is private": "9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 192.167.0.1",
    "beside what is shared": "100.63.255.255 100.128.0.0",
    "beside what is special": "192.0.1.1 198.17.255.255 198.20.0.0 168.63.129.17",
    "IPv6": "2606:4700::1111 2001:4860:4860::8888 2a00:1450::1 3ffd::1",
    "NAT64": "64:ff9b::1.1.1.1",
}

CLOSED = {
    "unspecified": "0.0.0.0 0.1.2.3 ::",
    "loopback": "127.0.0.1 127.255.255.254 ::1",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd00::1",
    "shared by a provider's customers": "100.64.0.1 100.100.100.200 100.127.255.255",
    "link-local": "169.254.169.254 fe80::1 febf::1",
    "site-local": "fec0::1 feff::1",
    "protocols": "192.0.0.1 192.0.0.192 192.88.99.1 2001:20::1 2001:1::1",
    "benchmarks": "198.18.0.1 198.19.255.255 2001:2::1",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
    "multicast": "224.0.0.1 239.255.255.255 ff02::1 ff0e::1",
    "reserved": "240.0.0.1 255.255.255.255 4000::1 5f00::1 100::1 3ffe::1",
    "a host's own": "168.63.129.16",
    "IPv4 in IPv6": "::127.0.0.1 ::1.1.1.1 ::ffff:127.0.0.1 ::ffff:1.1.1.1 ::ffff:0:1.1.1.1",
    "NAT64": "64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:: 64:ff9b::1:0:0",
    "NAT64 of a network's own": "64:ff9b:1::1.1.1.1 64:ff9b:1:ffff::1",
    "6to4": "2002:7f00:1:: 2002:101:101::1",
    "Teredo": "2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "scoped": "fe80::1%eth0 2606:4700::1111%eth0 ::1%lo",
    "no address": "localhost 1.1.1 0x7f.1 2130706433 01.1.1.1 1.1.1.1/32 [::1]",
}


@pytest.mark.parametrize(
    ("kind", "address"),
    [(kind, address) for kind, some in PUBLIC.items() for address in some.split()],
)
def test_public(kind: str, address: str) -> None:
    assert is_public(address), kind


@pytest.mark.parametrize(
    ("kind", "address"),
    [(kind, address) for kind, some in CLOSED.items() for address in some.split()],
)
def test_not_public(kind: str, address: str) -> None:
    assert not is_public(address), kind


def test_blanks_make_no_address() -> None:
    assert not is_public("") and not is_public("1.1.1.1 ") and not is_public(" ::1")


def found(*addresses: str) -> list[object]:
    """What the system's resolver gives."""
    return [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443))
        for one in addresses
    ]


def test_a_name_leads_to_all_its_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = found("1.1.1.1", "2606:4700::1111")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    assert resolve("allowed.example", 443) == [("1.1.1.1", 443), ("2606:4700::1111", 443)]


@pytest.mark.parametrize("address", ["127.0.0.1", "64:ff9b::10.0.0.1", "fec0::1", "fe80::1%2"])
def test_one_address_that_is_not_public_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A name of the list that its owner points at the host's own network."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found("1.1.1.1", address))
    with pytest.raises(RefusedError, match="not public"):
        resolve("allowed.example", 443)


def test_a_name_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(RefusedError, match="allowed.example"):
        resolve("allowed.example", 443)

    def fails(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(RefusedError, match=r"allowed\.example cannot be resolved: Name"):
        resolve("allowed.example", 443)
