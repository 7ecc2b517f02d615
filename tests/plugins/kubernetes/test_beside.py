"""What a process does beside its sessions: looking after all their pods, and knowing others'."""

from __future__ import annotations

import select
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.kubernetes.conftest import Scripted

minding: Any = pytest.importorskip("stockade_kubernetes.minding")
opening: Any = pytest.importorskip("stockade_kubernetes.opening")
pods: Any = pytest.importorskip("stockade_kubernetes.pod")
streams: Any = pytest.importorskip("stockade_kubernetes.streams")


class Sandbox:
    """What is looked after, with a list of what it was shown."""

    def __init__(self, uid: str) -> None:
        self.uid, self.owner_label = uid, "an-owner"
        self.transport = SimpleNamespace(heard=float("inf"), ping=lambda: None)
        self.seen: list[Any] = []
        self.mourned: list[str] = []

    def mourn(self, why: str) -> None:
        self.mourned.append(why)

    def see(self, pod: Any) -> None:
        self.seen.append(pod)


def pod(uid: str, address: str = "") -> dict[str, Any]:
    return {"metadata": {"name": uid, "uid": uid}, "status": {"podIP": address}}


def test_whoever_shares_a_pod_is_looked_after_when_another_leaves(
    scripted: Scripted, cluster: Any
) -> None:
    """A process may hold a durable session twice: as it opened it, and attached to."""
    found = pod("a")
    scripted.answer = lambda method, path, body: (200, {}, {"items": [found]})
    minder = minding._Minder(cluster)
    stays, leaves = Sandbox("a"), Sandbox("a")
    minder.begin(stays)
    minder.begin(leaves)
    minder.end(leaves)
    minder._look(list(minder._all))
    minder.end(stays)
    assert stays.seen == [found] and leaves.seen == []


def test_a_node_that_has_fallen_silent_is_given_up(scripted: Scripted, cluster: Any) -> None:
    """Its stream neither ends nor gives a sign of life, and the API server may not know yet."""
    found = pod("a"), pod("b")
    scripted.answer = lambda method, path, body: (200, {}, {"items": found})
    silent, speaks = Sandbox("a"), Sandbox("b")
    silent.transport.heard = time.monotonic() - 46
    speaks.transport.heard = time.monotonic() - 20
    minding._Minder(cluster)._look([silent, speaks])
    assert silent.mourned == ["nothing is heard of it any more"] and speaks.mourned == []


def test_a_thread_that_was_not_to_be_had_is_asked_for_again(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    minder = minding._Minder(cluster)
    with monkeypatch.context() as full:
        full.setattr(minding, "start_thread", none_left)
        with pytest.raises(RuntimeError):
            minder.begin(Sandbox("a"))
    monkeypatch.setattr(minding, "start_thread", started.append)
    minder.begin(Sandbox("b"))
    assert len(started) == 1 and len(minder._all) == 1


@pytest.mark.timeout(30)
def test_a_stream_that_takes_nothing_holds_up_no_sign_of_life() -> None:
    ours, theirs = socket.socketpair()
    connection = SimpleNamespace(sock=ours, subprotocol="", getheaders=dict)
    transport = streams.PodTransport(connection)
    asked = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    sender = threading.Thread(target=lambda: _sent(transport, bytes(8 * asked)), daemon=True)
    sender.start()
    waiting = select.poll()
    waiting.register(ours, select.POLLOUT)
    while waiting.poll(0):  # until no more is taken
        sender.join(0.01)
    transport.ping()
    assert sender.is_alive()
    transport.close()
    sender.join(5)
    theirs.close()
    assert not sender.is_alive()


def _sent(transport: Any, data: bytes) -> None:
    with pytest.raises(OSError):
        transport.send(data)


def test_of_many_pods_one_page_is_asked_for_and_the_newest_here_are_tried(
    scripted: Scripted, cluster: Any
) -> None:
    many = [pod(f"p{number}", f"10.1.0.{number}") for number in range(64)]
    said = {"items": many, "metadata": {"continue": "more"}}
    scripted.answer = lambda method, path, body: (200, {}, said)
    way = opening.Opening(cluster, pods.Shape(image="an-image"), "node", 0.1)
    both = pod("a", "10.2.0.1")
    both["status"]["podIPs"] = [{"ip": "10.2.0.1"}, {"ip": "2001:db8::1"}]
    assert len(way._neighbours(both)) == 16
    assert way._neighbours(pod("b", "10.2.0.2"))[-2:] == ("10.2.0.1", "2001:db8::1")
    assert "10.2.0.2" not in way._neighbours(pod("b", "10.2.0.2"))
    ((_, path, _),) = scripted.asked
    assert "limit=64" in path
