"""How programs end, distinguished while they all run: D3 and E5 on a real engine."""

from __future__ import annotations

import threading

import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON
from stockade.results import SandboxResult, Verdict
from stockade.session import Session

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

#: Past any limit here, in a shell and in what every image has.
HOG = "x=$(head -c 400000000 /dev/zero | tr '\\0' x)"
ALL = [
    ("sleep 60", 2.0, Verdict.TIMED_OUT, 137),
    ("exit 137", 30.0, Verdict.EXITED, 137),
    ("exit 143", 30.0, Verdict.EXITED, 143),
    ("sleep 1; exit 137", 30.0, Verdict.EXITED, 137),
    ("sleep 1; exit 143", 30.0, Verdict.EXITED, 143),
    ("kill -9 $$", 30.0, Verdict.SIGNALLED, 137),
    ("kill -15 $$", 30.0, Verdict.SIGNALLED, 143),
]


def at_the_same_time(session: Session, cases: list[tuple[str, float, Verdict, int]]) -> None:
    gate = threading.Barrier(len(cases))
    seen: dict[str, SandboxResult] = {}

    def work(line: str, timeout: float) -> None:
        gate.wait(30)
        seen[line] = session.shell(line, timeout=timeout)

    threads = [threading.Thread(target=work, args=case[:2]) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    reported = {line: (result.verdict, result.exit_code) for line, result in seen.items()}
    assert reported == {line: (verdict, code) for line, _, verdict, code in cases}


@pytest.mark.parametrize("image", [PYTHON, BUSYBOX])
def test_all_ends_in_one_session_at_the_same_time(image: str) -> None:
    """Out of memory among them, which takes the biggest program and nobody else."""
    with stockade.open(f"docker:{image}?memory_mb=96") as session:
        for _ in range(2):
            at_the_same_time(session, [*ALL, (HOG, 60.0, Verdict.OUT_OF_MEMORY, 137)])
        assert session.run(["echo", "usable"]).stdout == "usable\n"


def test_all_ends_in_one_gvisor_session() -> None:
    """Its end for memory is everybody's (E5), so that is looked at by itself."""
    need("gvisor")
    with stockade.open(f"gvisor:{BUSYBOX}") as session:
        at_the_same_time(session, ALL)
        assert session.run(["echo", "usable"]).stdout == "usable\n"


def test_a_code_beside_memory_that_is_full_is_a_code() -> None:
    """A program's own 137, again and again while the limit ends others."""
    with stockade.open(f"docker:{BUSYBOX}?memory_mb=64") as session:
        hog = threading.Thread(
            target=lambda: hogs.extend(session.shell(HOG, timeout=60) for _ in range(3))
        )
        hogs: list[SandboxResult] = []
        hog.start()
        codes = []
        while hog.is_alive():
            codes.append(session.shell("sleep 0.1; exit 137", timeout=30).verdict)
        hog.join()
        assert [result.verdict for result in hogs] == [Verdict.OUT_OF_MEMORY] * 3
        assert codes and set(codes) == {Verdict.EXITED}


def test_a_deadline_with_memory_nearly_full_is_a_deadline() -> None:
    with stockade.open(f"docker:{PYTHON}?memory_mb=128") as session:
        result = session.code("x = b'x' * (70 << 20)\nimport time; time.sleep(60)", timeout=2)
        assert result.verdict is Verdict.TIMED_OUT
        assert session.code("print(1)").stdout == "1\n"


def test_memory_that_a_child_used_up() -> None:
    """The program itself lives on and exits as it likes: that is what is reported."""
    with stockade.open(f"docker:{BUSYBOX}?memory_mb=64") as session:
        survived = session.shell(f'sh -c "{HOG}"; echo "ended: $?"; exit 3'.replace("$(", "\\$("))
        assert survived.verdict is Verdict.EXITED and survived.exit_code == 3
        assert survived.stdout == "ended: 137\n"
        handed_on = session.shell(f'sh -c "{HOG}"; exit $?'.replace("$(", "\\$("))
        assert handed_on.verdict is Verdict.OUT_OF_MEMORY


@pytest.mark.parametrize("image", [PYTHON, BUSYBOX])
def test_the_supervisor_survives(image: str) -> None:
    """A program has the kernel prefer all others: what reports is out of its reach (D16, E5)."""
    line = (
        "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || echo 1000 > $p/oom_score_adj; done "
        f"2>/dev/null; echo 500 > /proc/$$/oom_score_adj; {HOG}; {HOG}"
    )
    with stockade.open(f"docker:{image}?memory_mb=64") as session:
        assert session.shell(line, timeout=60).verdict is Verdict.OUT_OF_MEMORY
        assert session.run(["true"]).success
