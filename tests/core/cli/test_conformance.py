"""``stockade conformance``, run as a person or a script would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from stockade.testing.report.data import Report

NAME = "reference-no-isolation"


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{before}\nfrom stockade.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_table_a_report_and_a_page(tmp_path: Path) -> None:
    files = tmp_path / "report.json", tmp_path / "report.html"
    done = run(
        "-p",
        NAME,
        "--clause",
        "d4",
        "--clause",
        "E5",
        "--clause",
        "D14",
        "--json",
        str(files[0]),
        "--html",
        str(files[1]),
    )
    assert done.returncode == 0, done.stderr
    rows = {
        line.split()[0]: line for line in done.stdout.splitlines() if line.startswith(("D", "E"))
    }
    assert "held" in rows["D4"] and "unsupported" in rows["E5"] and "not checked" in rows["D14"]
    assert re.search(r"\b3 clauses, \d+ checks\b", done.stdout) and not done.stderr
    report = Report.from_json(json.loads(files[0].read_text()))
    assert set(report.states()) == {"D4", "E5", "D14"} and report.wall["name"] == NAME
    assert files[1].read_text().startswith("<!doctype html>")


def test_a_failing_clause_gives_one(tmp_path: Path) -> None:
    broken = (
        "import stockade.testing.subprocesses as s\n"
        "spawn = s.PlainSandbox.spawn\n"
        "def merged(self, request):\n"
        "    import attrs\n"
        "    line = '\"$@\" 2>&1'\n"
        "    argv = ('sh', '-c', line, 'sh', *request.argv)\n"
        "    return spawn(self, attrs.evolve(request, argv=argv))\n"
        "s.PlainSandbox.spawn = merged\n"
    )
    done = run("-p", NAME, "--clause", "D4", "--json", "-", before=broken)
    assert done.returncode == 1
    assert "failed: D4_streams_are_apart" in done.stderr and "expected:" in done.stderr
    assert json.loads(done.stdout)["clauses"]["D4"]["state"] == "failing"
    checks = ("D4_streams_are_apart", "D4_streams_are_byte_exact")
    declared = [word for check in checks for word in ("--deviation", f"{check}=one stream")]
    done = run("-p", NAME, "--clause", "D4", *declared, before=broken)
    assert done.returncode == 0 and "deviating" in done.stdout and "one stream" in done.stdout


def test_what_cannot_be_checked_says_why() -> None:
    for arguments, words in (
        (("-p", NAME, "--clause", "Z1"), "no clause is named Z1"),
        (("-p", "no-such-wall"), "no installed distribution"),
        (("-p", f"{NAME}?memry_mb=1"), "memory_mb"),
        (("-p", NAME, "--deviation", "D99_x=y"), "CHECK=REASON"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and words in done.stderr, done


def test_without_pytest_it_says_what_to_install() -> None:
    done = run("-p", NAME, before="import sys; sys.modules['pytest'] = None")
    assert done.returncode == 2 and "pip install './core[testing]'" in done.stderr, done
