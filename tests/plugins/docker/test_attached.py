"""Durable sessions do what others do (C10)."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

import stockade
from conftest import need
from plugins.docker.conftest import PYTHON
from stockade import Session
from stockade.errors import CapacityError
from stockade_docker import ending


def keeps_and_restarts(session: Session) -> None:
    session.code("kept = 41", state="a")
    assert session.code("print(kept + 1)", state="a").stdout == "42\n"
    session.restart("a")
    assert session.code("print('kept' in globals())", state="a").stdout == "False\n"
    session.code("kept=41", language="bash", state="b")
    assert session.code("echo $((kept + 1))", language="bash", state="b").stdout == "42\n"
    session.restart("b", "bash")
    assert session.code("echo ${kept-none}", language="bash", state="b").stdout == "none\n"


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_named_interpreters_of_a_durable_session(wall: str) -> None:
    need(wall)
    durable = f"{wall}:{PYTHON}?durable=true&pull=never"
    with stockade.open(durable, agent_id="a") as session:
        keeps_and_restarts(session)
        with stockade.attach(session.session_id, agent_id="a") as attached:
            keeps_and_restarts(attached)
        session.close()


def test_where_no_thread_is_to_be_had_no_connection_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ours, theirs = socket.socketpair()
    api: Any = SimpleNamespace(attach_socket=lambda container, params: ours)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(CapacityError, match="no thread could be started"):
        ending.ContainerEnd(api, "a-container", lambda: None)
    theirs.settimeout(5)
    assert theirs.recv(1) == b""
    theirs.close()
