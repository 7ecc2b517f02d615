"""Where the results of checks go: a report in memory, or files in the folder STOCKADE_REPORTS.

Under pytest each check joins its result into the file of its class at once, under a
lock: so a run that is split among processes (pytest-xdist) gives one report, and one
that dies leaves what it had.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from stockade.testing.report.data import CheckResult, Report

__all__ = ["REPORTS_VARIABLE", "Recorder", "file_recorder", "slug"]

#: Names the folder that running the suite under pytest writes reports to.
REPORTS_VARIABLE = "STOCKADE_REPORTS"

#: Which run this is: pytest-xdist gives its workers one id, else this process is a run.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex


class Recorder:
    """Collects results; ``on_result`` is called with each, for progress."""

    def __init__(
        self, report: Report, on_result: Callable[[CheckResult], None] = lambda _: None
    ) -> None:
        self.report = report
        self._on_result = on_result

    def add(self, result: CheckResult) -> None:
        self.report = self.report.with_check(result)
        self._on_result(result)


class _FileRecorder(Recorder):
    def __init__(self, report: Report, path: Path) -> None:
        super().__init__(attrs.evolve(report, run=_RUN))
        self._path = path

    def add(self, result: CheckResult) -> None:
        super().add(result)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._path.with_name(f".{self._path.stem}.lock")):
            report = self.report
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                there = Report.from_json(json.loads(self._path.read_text("utf-8")))
                if there.run == _RUN:
                    report = there.with_check(result)
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(report.to_json(), indent=1) + "\n", "utf-8")
            part.replace(self._path)


def file_recorder(report: Report) -> Recorder | None:
    """One that writes where the environment says, or None if it says nothing."""
    folder = os.environ.get(REPORTS_VARIABLE)
    if not folder:
        return None
    return _FileRecorder(report, Path(folder, f"{slug(report.title)}.json"))


def slug(title: str) -> str:
    """A file's name for a report: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "report"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time there
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
