"""Parts of a cluster that die and come back under a session: an answer in bounded time, always.

It stops parts of the tests' own cluster, so nothing else may use that meanwhile.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from stockade.errors import SandboxLostError, SandboxStartError, StockadeError

SCRIPT = Path(__file__).parents[3] / ".ci" / "cluster"
#: What breaks is noticed, and reported, within this.
BOUND = 90.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def cluster(*words: str) -> None:
    subprocess.run([str(SCRIPT), *words], check=True, capture_output=True, timeout=60)


@pytest.fixture(params=["kube-apiserver", "kubelet", "containerd"])
def part(request: pytest.FixtureRequest, on_cluster: str) -> Iterator[str]:
    name: str = request.param
    yield name
    cluster("start", name)
    until = time.monotonic() + 120
    while True:
        try:
            stockade.open(on_cluster, startup_timeout_seconds=20).close()
            return
        except StockadeError:
            if time.monotonic() > until:
                raise
            time.sleep(2)


def test_a_part_that_is_killed_and_comes_back_ends_or_spares_the_execution(
    part: str, on_cluster: str
) -> None:
    session = stockade.open(on_cluster)
    try:

        def strike() -> None:
            cluster("stop", part, "KILL")
            time.sleep(3)
            cluster("start", part)

        striking = threading.Timer(1.0, strike)
        striking.start()
        begun = time.monotonic()
        try:
            result = session.shell("echo before; sleep 8; echo after", timeout=60)
            assert result.stdout == "before\nafter\n"
        except SandboxLostError as error:
            assert error.retryable and error.partial is not None
            assert error.partial.stdout == "before\n"
        assert time.monotonic() - begun < BOUND
        striking.join()
    finally:
        until = time.monotonic() + 90
        while True:
            try:
                session.close()
                break
            except StockadeError:
                assert time.monotonic() < until
                time.sleep(2)


def test_a_cluster_that_is_away_is_said_within_the_start_up_time(
    part: str, on_cluster: str
) -> None:
    cluster("stop", part, "KILL")
    begun = time.monotonic()
    with pytest.raises((SandboxStartError, StockadeError)) as caught:
        stockade.open(on_cluster, startup_timeout_seconds=8)
    assert time.monotonic() - begun < 60
    assert caught.value.retryable
