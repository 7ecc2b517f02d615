"""The lane's second chances: what they forgive, and what they do not."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guest import chances, outcome

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
    assert (verdict.good, verdict.told, asked) == (True, (), [("all",)])
    assert verdict.summary.startswith("7 passed, 0 failed, 1 skipped")


def test_nothing_that_passed_is_nothing() -> None:
    assert not _take(outcome.Outcome(skipped=9))[0].good


def test_a_guest_that_broke_is_replaced_once_and_told() -> None:
    verdict, asked = _take(_BROKEN, outcome.Outcome(passed=7))
    assert verdict.good
    assert verdict.told == ("the guest did not end: once more, in a new guest",)
    assert asked == [("all",), ("all-new-guest",)]
    assert not _take(_BROKEN, _BROKEN)[0].good


def test_what_failed_runs_again_alone_and_is_told_by_name() -> None:
    verdict, asked = _take(_FAILING, outcome.Outcome(passed=2))
    assert verdict.good
    assert verdict.summary.startswith("7 passed, 0 failed, 2 skipped")
    assert verdict.told == ("failed at first, run once more in a new guest: test_one, test_two",)
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


def test_a_run_without_a_report_tells_why(tmp_path: Path) -> None:
    assert "did not end" in outcome.read(tmp_path, 124, "").trouble
    assert "code 1" in outcome.read(tmp_path, 1, "").trouble
    Path(tmp_path, "junit.xml").write_text(_REPORT)
    assert "code 2" in outcome.read(tmp_path, 2, "").trouble
    Path(tmp_path, "junit.xml").write_text("<testsuites><testsuite/></testsuites>")
    assert "none that failed" in outcome.read(tmp_path, 1, "").trouble
