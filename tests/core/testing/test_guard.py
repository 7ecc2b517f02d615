"""What stands around every check: the time limit, the shared session, what is required."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from core.walls import ScriptedWall
from stockade.config import SandboxConfig
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import say


class _Base(ConformanceBase):
    """Checks of its own on a scripted wall, in which every program exits with 0."""

    def make_provider(self, **config: Any) -> WallProvider:
        settings = SandboxConfig(**config)
        return WallProvider("scripted", ScriptedWall(), settings, Runtime(discover_plugins=False))


def test_a_check_that_hangs_fails_and_names_its_line() -> None:
    class Checked(_Base):
        check_seconds = 0.3

        def test_D6_hangs(self) -> None:
            time.sleep(5)

    began = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"^D6\n") as caught:
        Checked().test_D6_hangs()
    assert time.monotonic() - began < 4
    assert "did not end within 0.3 s" in str(caught.value)
    assert "test_guard.py" in str(caught.value) and "time.sleep(5)" in str(caught.value)


def test_after_enough_slow_failures_the_rest_is_not_run() -> None:
    ran = []

    class Checked(_Base):
        check_seconds = 0.1

        def test_D1_hangs(self) -> None:
            ran.append(1)
            time.sleep(0.3)

    for number in range(8):
        with pytest.raises(pytest.fail.Exception) as caught:
            Checked().test_D1_hangs()
        assert ("not run" in str(caught.value)) is (number >= 5)
    assert len(ran) == 5


def test_one_session_is_shared_until_a_check_fails_with_it() -> None:
    class Checked(_Base):
        def test_C1_passes(self) -> None:
            with self.shared() as session:
                seen.append(session)
                assert self.run(session, say("x")).success

        def test_C2_fails(self) -> None:
            with self.shared() as session:
                seen.append(session)
                expect(False, "C2", "a", "b")

        def test_C3_skips(self) -> None:
            with self.shared() as session:
                seen.append(session)
                pytest.skip("no Python")

        def test_C4_takes_two(self) -> None:
            with self.shared() as one, self.shared() as two:
                assert one is not two

        def test_C5_closes(self) -> None:
            with self.shared() as session:
                session.close()

    seen: list[Any] = []
    for _ in range(2):
        Checked().test_C1_passes()
    with pytest.raises(pytest.skip.Exception):
        Checked().test_C3_skips()
    assert seen[0] is seen[1] is seen[2]
    with pytest.raises(pytest.fail.Exception):
        Checked().test_C2_fails()
    assert str(seen[0].status) == "destroyed"
    Checked().test_C4_takes_two()
    Checked().test_C1_passes()
    assert seen[-1] is not seen[0]
    Checked().test_C5_closes()
    Checked().test_C1_passes()
    assert seen[-1] is not seen[-2]
    Checked.teardown_class()
    assert str(seen[-1].status) == "destroyed"


def test_a_wall_that_must_be_there_fails_instead_of_skipping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def suite() -> Any:
        class Checked(ConformanceBase):
            provider = "stockade-no-such-wall"

            def test_D1_runs(self) -> None: ...

        return Checked()

    with pytest.raises(pytest.skip.Exception, match="no installed distribution"):
        suite().test_D1_runs()
    monkeypatch.setenv("STOCKADE_REQUIRE", "landlock,stockade-no-such-wall")
    with pytest.raises(pytest.fail.Exception, match="required here"):
        suite().test_D1_runs()


@pytest.mark.parametrize(
    ("text", "reported"),
    [("2.5", "2.5"), ("", "1.0"), ("0", "above 0"), ("nan", "above 0"), ("fast", "above 0")],
)
def test_the_time_factor_of_the_environment(text: str, reported: str) -> None:
    code = "from stockade.testing.base import ConformanceBase as C; print(C.time_factor)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"STOCKADE_TIME_FACTOR": text},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert reported in done.stdout + done.stderr, done


def test_a_failure_says_where_to_look() -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        expect(False, "D6", "this", "that")
    text = str(caught.value)
    assert text.startswith("D6\n  expected: this\n  seen:     'that'\n  look at:  ")
    assert "test_guard.py" in text and "test_a_failure_says_where_to_look" in text
