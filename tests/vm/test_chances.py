"""The lane's second chances: what they forgive, and what they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guest import chances, machine, outcome

_FIRST, _OTHER = "tests/a.py::TestA::test_one", "tests/a.py::test_two"
_FAILING = outcome.Outcome(passed=5, skipped=2, failed=(_FIRST, _OTHER))
_BROKEN = outcome.Outcome(trouble="the guest did not end\nits console")


def _take(*outcomes: outcome.Outcome) -> tuple[chances.Verdict, list[tuple[str, ...]]]:
    left = list(outcomes)
    asked: list[tuple[str, ...]] = []

    def run(name: str, checks: tuple[str, ...]) -> outcome.Outcome:
        asked.append((name, *checks))
        return left.pop(0)

    verdict = chances.take(run, lambda text: None)
    assert not left
    return verdict, asked


def test_a_part_that_is_well_runs_once() -> None:
    verdict, asked = _take(outcome.Outcome(passed=7, skipped=1))
    assert (verdict.good, verdict.reported, asked) == (True, (), [("all",)])
    assert verdict.summary.startswith("7 passed, 0 failed, 1 skipped")


def test_nothing_that_passed_is_nothing() -> None:
    assert not _take(outcome.Outcome(skipped=9))[0].good


def test_a_guest_that_broke_is_replaced_once_and_reported() -> None:
    verdict, asked = _take(_BROKEN, outcome.Outcome(passed=7))
    assert verdict.good
    assert verdict.reported == ("the guest did not end: once more, in a new guest",)
    assert asked == [("all",), ("all-new-guest",)]
    assert not _take(_BROKEN, _BROKEN)[0].good


def test_what_failed_runs_again_alone_and_is_reported_by_name() -> None:
    verdict, asked = _take(_FAILING, outcome.Outcome(passed=2))
    assert verdict.good
    assert verdict.summary.startswith("7 passed, 0 failed, 2 skipped")
    assert verdict.reported == (
        "failed at first, run once more in a new guest: test_one, test_two",
    )
    assert asked[1] == ("failed-at-first", _FIRST, _OTHER)


def test_what_fails_again_has_failed() -> None:
    verdict, _ = _take(_FAILING, outcome.Outcome(passed=1, failed=(_OTHER,)))
    assert not verdict.good
    assert verdict.summary.startswith("6 passed, 1 failed")


def test_what_is_not_run_again_has_failed() -> None:
    for second in (_BROKEN, outcome.Outcome(passed=1, skipped=1), outcome.Outcome()):
        verdict, _ = _take(_FAILING, second)
        assert not verdict.good
        assert verdict.summary.startswith("5 passed, 2 failed")


_REPORT = """<testsuites><testsuite time="3.5">
<testcase classname="tests.a.TestA" name="test_one"><failure/></testcase>
<testcase classname="tests.a" name="test_two"><error/></testcase>
<testcase classname="tests.a" name="test_two"><failure/></testcase>
<testcase classname="tests.a" name="test_three"><skipped/></testcase>
<testcase classname="tests.a" name="test_four"/>
</testsuite></testsuites>"""


def test_a_report_is_read(tmp_path: Path) -> None:
    Path(tmp_path, "junit.xml").write_text(_REPORT)
    seen = outcome.read(tmp_path, 1, "log")
    assert (seen.passed, seen.skipped, seen.failed) == (1, 1, (_FIRST, _OTHER))
    assert (seen.seconds, seen.trouble) == (3.5, "")


def test_a_run_without_a_report_says_why(tmp_path: Path) -> None:
    assert "did not end" in outcome.read(tmp_path, 124, "").trouble
    assert "code 1" in outcome.read(tmp_path, 1, "").trouble
    Path(tmp_path, "junit.xml").write_text(_REPORT)
    assert "code 2" in outcome.read(tmp_path, 2, "").trouble
    Path(tmp_path, "junit.xml").write_text("<testsuites><testsuite/></testsuites>")
    assert "none that failed" in outcome.read(tmp_path, 1, "").trouble


# -- a guest that stands still -----------------------------------------------------------


def test_only_what_stood_still_for_long_enough_is_frozen() -> None:
    still = machine.Stillness(150)
    counts = [(0, None), (100, None), (200, 5), (340, 5), (345, 6), (490, 6), (495, 6)]
    assert [still.seen(count, now) for now, count in counts] == [
        False,
        False,
        False,
        False,
        False,
        False,
        True,
    ]


def test_a_processor_is_seen_by_its_threads_name() -> None:
    name = Path("/proc/self/comm").read_text().strip()[:4]
    assert machine.ticks_of(os.getpid(), name) is not None
    assert machine.ticks_of(os.getpid(), "no such thread") is None
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert machine.ticks_of(gone.pid, "true") is None


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sleep", "60"], "the emulator has frozen"),  # it takes no time
        (["sh", "-c", "while :; do :; done"], "did not end within 2 s"),
    ],
)
def test_a_frozen_emulator_is_given_up_early(
    command: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_FROZEN_SECONDS", 0.5)
    monkeypatch.setattr(machine, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(machine, "_PROCESSOR", command[0])
    monkeypatch.setattr(machine, "_command", lambda *_: command)
    with pytest.raises(machine.GuestError, match=said):
        machine.run(tmp_path, tmp_path, 2)
