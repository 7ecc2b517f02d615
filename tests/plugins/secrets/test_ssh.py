"""The agent, and servers' greetings: what is signed, and all that is not (E11)."""

from __future__ import annotations

import functools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from plugins.secrets.servers import Watch, gateway
from plugins.secrets.shells import (
    NEW_KEYS,
    Asking,
    Host,
    bind,
    keygen,
    list_keys,
    login,
    packet,
    reasons,
    sign,
    tunnel,
)
from stockade.config import Secret
from stockade.errors import PolicyRefusedError
from stockade.toolkit.egress import Gateway, Limits, RefusedError, WayOut
from stockade.wall import RequestOutcome
from stockade_secrets.ssh.greeting import Greeting
from stockade_secrets.ssh.keys import parse_key, verify
from stockade_secrets.ssh.wire import Fields, text

NUMBER = b"n" * 32
PLACE = "host.example", 22
FAILURE, SUCCESS = b"\x05", b"\x06"


@attrs.frozen
class World:
    """Two hosts, a key for each, and a session that has both."""

    host: Host
    other: Host
    served: Gateway
    watch: Watch
    keys: list[bytes]
    known: Path
    _asking: list[Asking] = attrs.field(factory=list)

    @property
    def own(self) -> bytes:
        return self.keys[0]

    def asks(self, served: Gateway | None = None) -> Asking:
        self._asking.append(Asking(served or self.served))
        return self._asking[-1]

    def close(self) -> None:
        for asking in self._asking:
            asking.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    host, other = Host(tmp_path, "one"), Host(tmp_path, "two")
    known = tmp_path / "known_hosts"
    known.write_text(f"host.example {host.line}\nother.example {other.line}\n")
    secrets = [
        Secret(
            name,
            f"file:{keygen(tmp_path / name)}",
            hosts=[f"git@{name}.example=loopback"],
            known_hosts=str(known),
        )
        for name in ("host", "other")
    ]
    watch = Watch()
    served = gateway(*secrets, watch=watch)
    keys = [parse_key(one, (tmp_path / one.name).read_text()).blob for one in secrets]
    made = World(host, other, served, watch, keys, known)
    yield made
    made.close()


def test_a_login_of_a_named_user_on_a_carried_connection_is_signed(world: World) -> None:
    for server in (None, world.host.blob):  # as any server has it, and as OpenSSH's has
        with tunnel(world.served, world.host, NUMBER, PLACE):
            asking = world.asks()
            assert asking.ask(bind(world.host, NUMBER)) == SUCCESS
            data = login(NUMBER, "git", world.own, server=server)
            answer = asking.ask(sign(world.own, data))
        assert answer[0] == 14
        verify(world.own, Fields(answer[1:]).text(), data)
        asked, outcome, _, _ = world.watch.next()
        assert outcome is RequestOutcome.CARRIED
        said = (asked.host, asked.port, asked.method, asked.path, asked.secrets)
        assert said == ("host.example", 22, "SIGN", "git", ("host",))


#: What is asked once the connection is bound, and a word of why it is refused.
ASKED: dict[str, tuple[Callable[[World], bytes], str]] = {
    "another user": (lambda w: sign(w.own, login(NUMBER, "root", w.own)), "the user 'root'"),
    "no user": (lambda w: sign(w.own, login(NUMBER, "", w.own)), "the user ''"),
    "a user in other letters": (lambda w: sign(w.own, login(NUMBER, "gít", w.own)), "not ASCII"),
    "another connection": (lambda w: sign(w.own, login(b"m" * 32, "git", w.own)), "another conn"),
    "another service": (
        lambda w: sign(w.own, login(NUMBER, "git", w.own, service=b"ssh-userauth")),
        "no login with this key",
    ),
    "the key of another host": (
        lambda w: sign(w.keys[1], login(NUMBER, "git", w.keys[1])),
        "none of those that sign for this host",
    ),
    "one key in another's name": (
        lambda w: sign(w.own, login(NUMBER, "git", w.keys[1])),
        "no login with this key",
    ),
    "another server": (
        lambda w: sign(w.own, login(NUMBER, "git", w.own, server=w.other.blob)),
        "another server's key",
    ),
    "another algorithm": (
        lambda w: sign(w.own, login(NUMBER, "git", w.own, algorithm=b"ssh-rsa")),
        "no login with this key",
    ),
    "more behind it": (lambda w: sign(w.own, login(NUMBER, "git", w.own) + b"x"), "more than"),
    "less of it": (lambda w: sign(w.own, login(NUMBER, "git", w.own)[:-1]), "too early"),
    "a file": (lambda w: sign(w.own, b"SSHSIG" + text(b"git") + text(b"")), ""),
    "nothing": (lambda w: sign(w.own, b""), "too early"),
    "anything of its number": (lambda w: sign(w.own, text(NUMBER) + b"\x05rest"), "too early"),
    "a key of nobody": (lambda w: sign(b"x", login(NUMBER, "git", b"x")), "none of those"),
}


@pytest.mark.parametrize(("asked", "word"), ASKED.values(), ids=ASKED)
def test_no_other_thing_is_signed(world: World, asked: Callable[[World], bytes], word: str) -> None:
    with tunnel(world.served, world.host, NUMBER, PLACE):
        asking = world.asks()
        assert asking.ask(bind(world.host, NUMBER)) == SUCCESS
        assert asking.ask(asked(world)) == FAILURE
        request, outcome, _, reason = world.watch.next()
        assert outcome is RequestOutcome.REFUSED and word in (reason or "")
        assert request.host == "host.example"
        # It goes on for whoever asks for what it signs.
        good = sign(world.own, login(NUMBER, "git", world.own))
        assert asking.ask(good)[0] == 14


def test_without_a_bind_nothing_is_signed(world: World) -> None:
    with tunnel(world.served, world.host, NUMBER, PLACE):
        good = sign(world.own, login(NUMBER, "git", world.own))
        assert world.asks().ask(good) == FAILURE
    assert "for which connection" in (reasons(world.watch, 1)[0] or "")


BINDS: dict[str, Callable[[World], bytes]] = {
    "handed on": lambda w: bind(w.host, NUMBER, forwarding=1),
    "neither": lambda w: bind(w.host, NUMBER, forwarding=2),
    "another number": lambda w: bind(w.host, b"m" * 32, signed=w.host.sign(NUMBER)),
    "another server's key": lambda w: bind(w.other, NUMBER, signed=w.host.sign(NUMBER)),
    "another server": lambda w: bind(w.other, NUMBER),
    "no signature": lambda w: bind(w.host, NUMBER, signed=b""),
    "a signature of nothing": lambda w: bind(
        w.host, NUMBER, signed=text(b"ssh-ed25519") + text(b"")
    ),
    "its own, elsewhere": lambda w: bind(w.host, b"x" * 32),
    "more behind it": lambda w: bind(w.host, NUMBER) + b"x",
    "less of it": lambda w: bind(w.host, NUMBER)[:-1],
}


@pytest.mark.parametrize("message", BINDS.values(), ids=BINDS)
def test_a_bind_that_is_not_proved_binds_nothing(
    world: World, message: Callable[[World], bytes]
) -> None:
    with tunnel(world.served, world.host, NUMBER, PLACE):
        asking = world.asks()
        assert asking.ask(message(world)) == FAILURE
        good = sign(world.own, login(NUMBER, "git", world.own))
        assert asking.ask(good) == FAILURE


def test_a_connection_is_bound_once(world: World) -> None:
    with tunnel(world.served, world.host, NUMBER, PLACE):
        asking = world.asks()
        assert asking.ask(bind(world.host, NUMBER)) == SUCCESS
        assert asking.ask(bind(world.host, NUMBER)) == FAILURE
        assert asking.ask(sign(world.own, login(NUMBER, "git", world.own))) == FAILURE


def test_a_connection_that_the_gateway_does_not_carry_is_not_signed_for(world: World) -> None:
    """Even to the very host: who is outside logs in with no signature from inside."""
    good = sign(world.own, login(NUMBER, "git", world.own))
    asking = world.asks()
    assert asking.ask(bind(world.host, NUMBER)) == FAILURE
    with tunnel(world.served, world.host, NUMBER, PLACE):
        asking = world.asks()
        assert asking.ask(bind(world.host, NUMBER)) == SUCCESS
    assert asking.ask(good) == FAILURE, "it is over"
    assert "that this session's gateway carries" in (reasons(world.watch, 2)[0] or "")


def test_a_host_is_not_another_one(world: World) -> None:
    """A tunnel to one host whose server shows the key of another, which is known, too."""
    with pytest.raises(RefusedError, match="not known"):
        with tunnel(world.served, world.other, NUMBER, PLACE):
            raise AssertionError("it was let in")
    with tunnel(world.served, world.other, NUMBER, ("other.example", 22)):
        asking = world.asks()
        assert asking.ask(bind(world.other, NUMBER)) == SUCCESS
        assert asking.ask(sign(world.own, login(NUMBER, "git", world.own))) == FAILURE


def test_keys_are_listed_and_nothing_is_changed(world: World) -> None:
    asking = world.asks()
    assert [blob for blob, _ in list_keys(asking.ask(b"\x0b"))] == world.keys
    with tunnel(world.served, world.host, NUMBER, PLACE):
        assert asking.ask(bind(world.host, NUMBER)) == SUCCESS
        assert list_keys(asking.ask(b"\x0b")) == [(world.own, b"host")], "those of the host"
    asking = world.asks()
    for kind in (0, 1, 3, 7, 9, 17, 18, 19, 20, 21, 22, 23, 25, 26, 28, 255):
        assert asking.ask(bytes([kind]) + text(world.own) + text(b"word")) == FAILURE, kind
    assert asking.ask(b"\x1b" + text(b"query")) == FAILURE
    assert len(list_keys(asking.ask(b"\x0b"))) == 2


@pytest.mark.parametrize("size", [0, 16 * 1024 + 1, 1 << 31, (1 << 32) - 1])
def test_messages_that_are_too_long_end_the_connection(world: World, size: int) -> None:
    asking = world.asks()
    asking.sock.sendall(struct.pack(">I", size))
    assert asking.sock.recv(1) == b""


def test_a_program_that_says_nothing_is_not_waited_for_for_ever(world: World) -> None:
    served = Gateway(_way_out(world), limits=Limits(idle_seconds=0.2))
    asking = world.asks(served)
    asking.sock.sendall(b"\0\0")
    assert asking.sock.recv(1) == b""
    few = Gateway(_way_out(world), limits=Limits(connections=1))
    held = world.asks(few)
    list_keys(held.ask(b"\x0b"))
    refused = world.asks(few)
    assert refused.sock.recv(1) == b"", "these count as connections do"
    said = _said(few, *PLACE)
    assert said.startswith(b"SSH-2.0-") and b"1 connections are open" in said
    few.close()
    assert held.sock.recv(1) == b""


def _way_out(world: World) -> WayOut:
    return WayOut(names=world.served.names, opener=world.served.opener, watch=world.watch)


def test_a_policy_may_refuse(world: World) -> None:
    world.watch.refuses = PolicyRefusedError("not today")
    with tunnel(world.served, world.host, NUMBER, PLACE):
        asking = world.asks()
        assert asking.ask(bind(world.host, NUMBER)) == SUCCESS
        assert asking.ask(sign(world.own, login(NUMBER, "git", world.own))) == FAILURE
    assert world.watch.judged[-1].secrets == ("host",)
    assert reasons(world.watch, 1) == ["not today"]


# -- servers ---------------------------------------------------------------------------


def _keep(seen: list[tuple[bytes, ...]], *shown: bytes) -> None:
    seen.append(shown)


def test_a_greeting_is_read_however_it_is_cut(world: World) -> None:
    for kind in (31, 33):
        seen: list[tuple[bytes, ...]] = []
        greeting = Greeting(functools.partial(_keep, seen))
        group = packet(bytes([31]) + text(b"p") + text(b"g"))
        whole = b"be welcome\r\n" + world.host.reply(NUMBER, kind) + packet(NEW_KEYS) + b"sealed"
        if kind == 33:
            whole = whole.replace(packet(bytes([20]) + bytes(40)), group)
        for at in range(len(whole)):
            greeting(whole[at : at + 1])
        assert greeting.over and seen == [(world.host.blob, world.host.sign(NUMBER))]


GREETINGS = {
    "no SSH": b"HTTP/1.1 200 OK\r\n" * 60,
    "an old version": b"SSH-1.5-x\r\n",
    "a line without an end": b"x" * 2000,
    "a packet that is too long": b"SSH-2.0-x\r\n" + struct.pack(">IB", 1 << 20, 4),
    "a packet of padding alone": b"SSH-2.0-x\r\n" + struct.pack(">IB", 12, 11) + bytes(20),
    "an empty packet": b"SSH-2.0-x\r\n" + struct.pack(">IB", 0, 0),
    "encryption without a key": b"SSH-2.0-x\r\n" + packet(NEW_KEYS),
    "packets without an end": b"SSH-2.0-x\r\n" + packet(b"\x02" + bytes(30_000)) * 80,
}


@pytest.mark.parametrize("said", GREETINGS.values(), ids=GREETINGS)
def test_what_is_no_greeting_is_refused(said: bytes) -> None:
    greeting = Greeting(lambda *_: None)
    with pytest.raises(RefusedError):
        for at in range(0, len(said), 4096):
            greeting(said[at : at + 4096])


def test_a_second_key_is_refused(world: World) -> None:
    greeting = Greeting(lambda *_: None)
    greeting(world.host.reply(NUMBER))
    with pytest.raises(RefusedError):
        greeting(world.host.reply(NUMBER).partition(b"\n")[2])


def test_a_program_that_speaks_another_protocol_is_refused(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        known = world.known
        known.write_text(known.read_text() + f"[a.example]:{port} {world.host.line}\n")
        hosts = [f"git@a.example:{port}=loopback"]
        source = f"file:{known.parent}/host"
        watch = Watch()
        served = gateway(Secret("a", source, hosts=hosts, known_hosts=str(known)), watch=watch)
        said = _said(served, "a.example", port, b"GET / HTTP/1.1\r\n\r\n")
    assert b"another protocol" in said
    assert watch.next()[1] is RequestOutcome.REFUSED


def _said(served: Gateway, name: str, port: int, sent: bytes = b"") -> bytes:
    """All that a program hears that connects to a host's own port."""
    near, far = socket.socketpair()
    threading.Thread(target=served.serve_ssh, args=(far, name, port), daemon=True).start()
    with near:
        near.settimeout(20)
        near.sendall(sent)
        said = b""
        while piece := near.recv(4096):
            said += piece
    return said
