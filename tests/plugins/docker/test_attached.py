"""Durable sessions do what others do (C10)."""

from __future__ import annotations

import pytest

import stockade
from conftest import need
from plugins.docker.conftest import PYTHON
from stockade import Session


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
