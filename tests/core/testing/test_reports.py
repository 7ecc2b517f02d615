"""Conformance reports: states of clauses, JSON, files of several processes, page, matrix."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import stockade
from stockade.testing.clauses import CLAUSES, clause_of
from stockade.testing.report.data import CheckResult, Report, describe, shown_string
from stockade.testing.report.matrix import matrix
from stockade.testing.report.page import page
from stockade.testing.report.recorder import slug
from stockade.testing.runner import checks_of

ROOT = Path(__file__).parents[3]
REPORTS = sorted((ROOT / "docs" / "reports").glob("*.json"))


def report(**outcomes: str) -> Report:
    """One with these checks; levels as below."""
    empty = Report(
        title="demo: <target>",
        provider="demo:target?memory_mb=64",
        wall={
            "name": "demo",
            "target": "target",
            "distribution": "stockade-demo",
            "version": "1.0",
            "isolation": "vm",
            "summary": "a & b",
        },
        capabilities={
            "memory": {"level": "native", "note": ""},
            "files": {"level": "emulated", "note": ""},
            "pause": {"level": "unsupported", "note": "never"},
        },
    )
    for name, outcome in outcomes.items():
        word, _, message = outcome.partition(": ")
        empty = empty.with_check(
            CheckResult(
                name=name, clause=clause_of(name), outcome=word, seconds=0.5, message=message
            )
        )
    return empty


def state(**outcomes: str) -> str:
    (found,) = report(**outcomes).states().values()
    return found.state


def test_a_clause_is_what_its_checks_come_to() -> None:
    assert state(C3_a="passed") == "held"
    assert state(E5_a="passed") == "native"
    assert state(F1_a="passed", F1_b="skipped: no Python") == "emulated"
    assert state(G2_a="refused", G2_b="unsupported: pause") == "unsupported"
    assert state(E5_a="skipped: no Python") == "not checked"
    assert state(E5_a="passed", E5_b="deviated: why") == "deviating"
    assert state(E5_a="deviated: why", E5_b="failed: E5") == "failing"
    assert report(E5_b="deviated: why").states()["E5"].note == "why"
    assert list(report(G1_a="passed", A10_b="passed", A2_c="passed").states()) == ["A2", "G1"]


def test_json_goes_there_and_back() -> None:
    there = report(D6_a="failed: D6\n  seen: x", A1_b="passed", D10_c="passed")
    text = json.dumps(there.to_json())
    assert Report.from_json(json.loads(text)) == there
    data = json.loads(text)
    assert data["schema"] == 1 and data["clauses"]["D6"]["state"] == "failing"
    assert [check["clause"] for check in data["checks"]] == ["A1", "D6", "D10"]
    assert data["summary"] == {"held": 2, "failing": 1}
    with pytest.raises(ValueError, match="schema 2"):
        Report.from_json({**data, "schema": 2})
    Report.from_json({**data, "later": 1, "checks": [{**data["checks"][0], "later": 2}]})


def test_secrets_of_the_string_are_left_out() -> None:
    string = "reference-no-isolation?env_vars=TOKEN%3Dhunter2&labels=a%3Db"
    assert "hunter2" not in shown_string(string) and "labels=a=b" in shown_string(string)
    shown = shown_string("docker?engine=tcp%3A%2F%2Fme%3Ahunter2%40host%3A2376")
    assert "hunter2" not in shown and "host" in shown


def test_a_description_says_what_and_where() -> None:
    chosen = stockade.provider("reference-no-isolation")
    found = describe(chosen, "reference-no-isolation").to_json()
    assert found["wall"]["distribution"] == "stockade-reference"
    assert "NO ISOLATION" in found["wall"]["summary"]
    assert found["host"]["kernel"] and found["capabilities"]["memory"]["level"] == "unsupported"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["started"])


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for name, v in attributes if name in ("src", "href", "action")]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_escapes() -> None:
    text = page(report(D6_a="failed: D6\n  seen: <script>alert(1)</script>", G2_b="refused"))
    reader = _Reader()
    reader.feed(text)
    assert not reader.open and not reader.links
    assert "<script" not in text and "url(" not in text and "@import" not in text
    for word in ("demo: <target>", "a & b", "failing", "unsupported", "pausing", "<script>alert"):
        assert word in reader.text
    assert "prefers-color-scheme: dark" in text


def test_the_matrix_names_states_and_reasons() -> None:
    text = matrix([report(E5_a="passed", G2_a="refused", D6_b="deviated: for this"), report()])
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert set(CLAUSES) <= set(rows)
    assert (
        "| native | ? |" in rows["E5"] and "| \u2013 |" in rows["G2"] and "deviates" in rows["D6"]
    )
    assert "- demo: <target>, D6: for this" in text


def test_the_documentations_matrix_is_what_its_reports_give() -> None:
    assert REPORTS, "docs/reports is empty"
    reports = [Report.from_json(json.loads(path.read_text("utf-8"))) for path in REPORTS]
    made = matrix(reports)
    assert (ROOT / "docs" / "matrix.md").read_text("utf-8") == made, (
        "run: python -m stockade.testing.report.matrix docs/reports/*.json > docs/matrix.md"
    )
    for path, found in zip(REPORTS, reports, strict=True):
        assert not found.failed, path
        assert path.stem == slug(found.title)
        assert path.stat().st_size < 64_000


def test_checks_are_picked_by_clause_and_group() -> None:
    everything = checks_of()
    assert everything[0].startswith("test_A1") and everything[-1].startswith("test_G2")
    assert {clause_of(check) for check in checks_of(("d6", "E"))} == {
        number for number in CLAUSES if number == "D6" or number[0] == "E"
    }
    assert checks_of(("D1",)) and not {c for c in checks_of(("D1",)) if "D10" in c}
    assert checks_of(("X9",)) == []


_TESTS = """
from stockade.testing import ProviderConformance
from stockade.testing.base import ConformanceBase
from stockade.testing.checks.d_output import Output

class TestPart(Output, ConformanceBase):
    provider = "reference-no-isolation"
    title = "a part"

class TestAbsent(ProviderConformance):
    provider = "no-such-wall"
    title = "absent"

class TestReference(ProviderConformance):
    provider = "reference-no-isolation"
    title = "the reference"
    deviations = {"D2_signals_are_named": "said so", "D9_a_folder_that_is_missing_is_named": "no"}

    def test_D1_a_shell_line_meets_one(self):
        raise AssertionError("mine")
"""


@pytest.mark.parametrize("processes", [0, 2])
def test_running_the_class_writes_one_report(tmp_path: Path, processes: int) -> None:
    """Also where the checks are split among processes; and none of a part of the suite, nor
    of a wall that is not here."""
    pytest.importorskip("xdist")
    (tmp_path / "test_it.py").write_text(_TESTS)
    wanted = "D1_a_shell or D2_signals or D4_streams_are_apart or E5_the_memory or D9_a_folder"
    environment = {**os.environ, "STOCKADE_REPORTS": str(tmp_path / "reports")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    for _ in range(1 if processes else 2):  # a second run starts the report anew
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-n",
                str(processes),
                "-p",
                "no:cacheprovider",
                "-k",
                wanted,
                "test_it.py",
            ],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 1, done.stdout + done.stderr
    (path,) = (tmp_path / "reports").glob("*.json")
    assert path.name == "the-reference.json"
    found = Report.from_json(json.loads(path.read_text()))
    assert {check.name: check.outcome for check in found.checks} == {
        "D1_a_shell_line_meets_one": "failed",
        "D2_signals_are_named": "failed",
        "D4_streams_are_apart": "passed",
        "D9_a_folder_that_is_missing_is_named": "failed",
        "E5_the_memory_limit_holds": "unsupported",
        "E12_attached_E5_the_memory_limit_holds": "unsupported",
        "E12_overlapping_E5_the_memory_limit_holds": "unsupported",
    }
    words = {check.name: check.message for check in found.checks}
    assert "deviates no more (said so)" in words["D2_signals_are_named"]
    assert words["D1_a_shell_line_meets_one"].startswith("D1\n")
