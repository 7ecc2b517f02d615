"""Warm pools of containers: what they hold is gone when they are, Ctrl-C included."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, ours, until
from stockade.aio import AsyncPool

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

#: Short sleeps: a signal that comes just before a long one would be seen after it.
WAIT = "for _ in range(600): time.sleep(0.05)"
FORMS = {
    "with": f"""
with stockade.Pool({{string!r}}, size=3) as pool:
    {{step}}
    {WAIT}
""",
    "bare": f"""
pool = stockade.Pool({{string!r}}, size=3)
{{step}}
{WAIT}
""",
    "async": """
import asyncio
from stockade.aio import AsyncPool
async def main():
    async with AsyncPool({string!r}, size=3) as made:
        pool = made.sync
        {step}
        await asyncio.sleep(30)
asyncio.run(main())
""",
}
STEPS = {
    "starting": "print('up', flush=True)",
    "handed out": "pool.wait_ready(60); session = pool.open(); print('up', flush=True)",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupt_leaves_nothing(engine: docker.APIClient, form: str, step: str) -> None:
    code = FORMS[form].format(string=f"docker:{BUSYBOX}", step=STEPS[step])
    with subprocess.Popen(
        [sys.executable, "-c", "import stockade, time\n" + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "up\n"
            owner.send_signal(signal.SIGINT)
            _, err = owner.communicate(timeout=60)
        finally:
            owner.kill()
    # 1 where a thread evaluated text meanwhile (an import in the background may): CPython then
    # forgets that it was to end by the signal.
    assert "KeyboardInterrupt" in err and owner.returncode in (-signal.SIGINT, 1)
    assert not ours(engine, owner.pid), err


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_sessions_that_were_started_before(wall: str, engine: docker.APIClient) -> None:
    need(wall)
    with stockade.Pool(f"{wall}:{PYTHON}", size=2) as pool:
        assert pool.wait_ready(60)
        waiting = ours(engine)
        assert len(waiting) == 2
        with pool.open(agent_id="researcher") as session:
            assert session.code("print(6*7)").stdout == "42\n"
            assert pool.wait_ready(60)  # another one took its place
            assert len(ours(engine)) == 3
        assert (pool.hits, pool.misses) == (1, 0)
        assert until(lambda: len(ours(engine)) == 2)
        assert not waiting <= ours(engine)  # the used one is gone, and was not kept
    assert not ours(engine)


def test_the_awaitable_pool(engine: docker.APIClient) -> None:
    async def main() -> None:
        async with AsyncPool(f"docker:{BUSYBOX}", size=2) as pool:

            async def one(number: int) -> str:
                async with await pool.open(agent_id=f"agent-{number}") as session:
                    return (await session.run(["echo", str(number)])).stdout

            said = await asyncio.gather(*(one(number) for number in range(6)))
            assert said == [f"{number}\n" for number in range(6)]

    asyncio.run(main())
    assert not ours(engine)
