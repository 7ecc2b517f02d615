"""An engine of the tests' own: killed in mid-execution, restarted, its image removed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import docker
import pytest

import stockade
from plugins.docker.conftest import BUSYBOX, ours, until
from plugins.docker.own_engine import OwnEngine, own_engine
from stockade.errors import DestroyError, SandboxLostError, StockadeError
from stockade.results import SessionStatus, Stream

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
]


@pytest.fixture
def own(engine: docker.APIClient) -> Iterator[OwnEngine]:
    with own_engine(engine) as made:
        yield made


def test_killed_and_restarted_in_mid_execution(own: OwnEngine) -> None:
    session = stockade.open(own.string)
    running = session.start(shell="echo so far; sleep 60")
    assert until(lambda: running._output.total(Stream.STDOUT))
    began = time.monotonic()
    own.kill()
    with pytest.raises(SandboxLostError, match="engine") as caught:
        running.result(30)
    assert time.monotonic() - began < 20
    assert caught.value.partial is not None and caught.value.partial.stdout == "so far\n"
    with pytest.raises(DestroyError):
        session.close()  # nobody can say that it is gone (C6)
    assert session.status is SessionStatus.FAILED
    with pytest.raises(StockadeError):
        stockade.open(own.string)
    own.start()
    session.close()
    assert not ours(own.client())
    with stockade.open(own.string) as again:
        assert again.run(["echo", "hi"]).stdout == "hi\n"


def test_an_engine_that_answers_no_more(own: OwnEngine) -> None:
    """Stopped, not dead: deadlines hold all the same."""
    with stockade.open(own.string) as session:
        session.run(["true"])
        running = session.start(["sleep", "60"], timeout=2)
        own.kill(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert running.result(30).killed
            assert time.monotonic() - began < 20
        finally:
            own.kill(signal.SIGCONT)


def test_the_image_removed_under_a_session(own: OwnEngine) -> None:
    with stockade.open(own.string) as session:
        own.client().remove_image(BUSYBOX, force=True)
        assert session.run(["echo", "hi"]).stdout == "hi\n"
    with pytest.raises(StockadeError, match="pull=never"):
        stockade.open(own.string + "&pull=never")
