"""What the agent and the gateway make of anything that programs and servers of SSH send (E11)."""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import examples
from plugins.secrets.shells import NEW_KEYS, login, packet, sign
from stockade.config import Secret
from stockade.toolkit.egress import RefusedError
from stockade.wall import OutgoingRequest, RequestEnd, RequestWatch
from stockade_secrets.ssh.agent import Agent, Bound
from stockade_secrets.ssh.greeting import Greeting
from stockade_secrets.ssh.keys import Key, parse_key
from stockade_secrets.ssh.wire import text

SECRET = Secret("key", "env:KEY", hosts=["git@good.example"])


def _key() -> Key:
    made = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return parse_key(SECRET, made.decode())


OWN, HOST = _key(), _key()
NUMBER = b"n" * 32
BOUND = Bound("good.example", 22, HOST.blob, HOST.sign(NUMBER, 0))


class Holder:
    def keys(self, bound: Bound | None) -> Sequence[tuple[Secret, Key]]:
        return [(SECRET, OWN)]

    def tunnel_of(self, signature: bytes) -> Bound | None:
        return BOUND if signature == BOUND.signature else None

    def users(self, secret: Secret, bound: Bound) -> Sequence[str]:
        return ["git"]


class Watch(RequestWatch):
    def judge(self, request: OutgoingRequest) -> None:
        assert (request.path, request.host, request.secrets) == ("git", "good.example", ("key",))

    def ended(self, request: OutgoingRequest, end: RequestEnd) -> None:
        return


BIND = b"\x1b" + text(b"session-bind@openssh.com")
GOOD_BIND = BIND + text(HOST.blob) + text(NUMBER) + text(BOUND.signature) + b"\0"
GOOD = sign(OWN.blob, login(NUMBER, "git", OWN.blob))
FIELDS = st.one_of(
    st.sampled_from(
        [
            NUMBER,
            HOST.blob,
            OWN.blob,
            BOUND.signature,
            b"git",
            b"root",
            b"ssh-connection",
            b"publickey",
            b"publickey-hostbound-v00@openssh.com",
            b"ssh-ed25519",
            b"session-bind@openssh.com",
        ]
    ),
    st.binary(max_size=8),
).map(text)
PARTS = st.lists(st.one_of(FIELDS, st.binary(max_size=5)), max_size=10).map(b"".join)
MESSAGES = st.one_of(
    st.sampled_from([GOOD, GOOD_BIND, b"\x0b"]),
    st.tuples(st.sampled_from([b"\x0b", b"\x0d", b"\x1b", b"\x11", b"\x16"]), PARTS).map(b"".join),
    PARTS.map(lambda data: b"\x0d" + text(OWN.blob) + text(data) + bytes(4)),
    PARTS.map(lambda rest: BIND + rest),
    st.tuples(st.sampled_from([GOOD, GOOD_BIND]), st.integers(0, 400), st.integers(1, 255)).map(
        lambda found: _changed(*found)
    ),
    st.binary(min_size=1, max_size=40),
)


def _changed(message: bytes, at: int, by: int) -> bytes:
    at %= len(message)
    return message[:at] + bytes([message[at] ^ by]) + message[at + 1 :]


@given(st.lists(MESSAGES, min_size=1, max_size=5))
@example([GOOD_BIND, GOOD])
@example([GOOD, GOOD_BIND, GOOD_BIND, GOOD])
@examples(400)
def test_nothing_but_a_login_of_its_user_is_signed(messages: list[bytes]) -> None:
    agent = Agent(Holder(), Watch())
    bound = False
    for message in messages:
        answer = agent.answer(message)
        if message[:1] == b"\x1b":
            assert answer != b"\x06" or (message == GOOD_BIND and not bound)
            bound = bound or answer == b"\x06"
        elif answer[0] == 14:
            assert bound
            hostbound = login(NUMBER, "git", OWN.blob, server=HOST.blob)
            flags = message[-4:]
            asked = [
                sign(OWN.blob, data, struct.unpack(">I", flags)[0])
                for data in (login(NUMBER, "git", OWN.blob), hostbound)
            ]
            assert message in asked
        else:
            assert answer[0] in (5, 12)


def _keep(shown: list[tuple[bytes, bytes]], key: bytes, signature: bytes) -> None:
    shown.append((key, signature))


PACKETS = st.one_of(
    st.just(packet(NEW_KEYS)),
    PARTS.map(lambda data: packet(b"\x1f" + data)),
    st.tuples(st.integers(0, 1 << 32 - 1), st.binary(max_size=30)).map(
        lambda found: struct.pack(">I", found[0] & 0xFFFFFFFF) + found[1]
    ),
    st.just(packet(b"\x1f" + text(HOST.blob) + text(b"q") + text(BOUND.signature))),
    st.binary(max_size=20),
)


@given(st.sampled_from([b"SSH-2.0-x\r\n", b"hi\nSSH-2.0-x\n", b""]), st.lists(PACKETS))
@examples(300)
def test_a_greeting_shows_one_key_or_ends(begun: bytes, packets: list[bytes]) -> None:
    """However its bytes are cut, and always alike."""
    whole = begun + b"".join(packets)
    seen: list[list[tuple[bytes, bytes]]] = []
    for size in (1, 7, len(whole) or 1):
        shown: list[tuple[bytes, bytes]] = []
        greeting = Greeting(functools.partial(_keep, shown))
        with contextlib.suppress(RefusedError):
            for at in range(0, len(whole), size):
                greeting(whole[at : at + size])
        assert len(shown) <= 1 and (not greeting.over or shown)
        seen.append(shown)
    assert seen[0] == seen[1] == seen[2]
