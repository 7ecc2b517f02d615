"""A lane: parts of a run of tests, each in a guest of its own, and what they came to."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Protocol

import attrs

from guest import chances, machine, outcome, recipe

ROOT = Path(__file__).resolve().parents[3]


class Part(Protocol):
    """One run of pytest in a guest."""

    @property
    def name(self) -> str: ...

    @property
    def seconds(self) -> int:
        """The most that booting and running may take."""

    def script(self, checks: tuple[str, ...] = ()) -> str:
        """The job of a guest: these checks, or all of the part's."""


@attrs.frozen(kw_only=True)
class Lane:
    """What its parts share."""

    name: str
    guest: recipe.Recipe
    machine: machine.Machine
    #: Fills the folder that each guest gets, but for its job and its reports.
    prepare: Callable[[Path], None]

    @property
    def reports(self) -> Path:
        return ROOT / "reports" / self.name

    def run(self, parts: Sequence[Part]) -> int:
        """Run the parts, as many at the same time as there are cpus, and print what came.

        Returns the exit code. Where no guest can be had that is said, and is well unless
        STOCKADE_REQUIRE names the lane.
        """
        try:
            guest = recipe.ensure(self.guest)
        except recipe.NoGuestError as error:
            recipe.say(f"no guest here: {error}")
            return int(self.name in os.environ.get("STOCKADE_REQUIRE", "").split(","))
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="stockade-vm-") as folder:
            common = Path(folder, "common")
            self.prepare(common)
            # A guest takes a cpu to emulate: more of them at a time would all be late.
            with futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                taken = functools.partial(self._take, guest, common)
                verdicts = list(pool.map(taken, parts))
        for part, verdict in zip(parts, verdicts, strict=True):
            for log in verdict.logs:
                print(f"== {part.name}\n{log}")
        for part, verdict in zip(parts, verdicts, strict=True):
            for text in verdict.reported:
                print(f"{self.name}: {part.name}: {text}")
            print(f"{self.name}: {part.name}: {verdict.summary}")
        seconds = time.monotonic() - began
        print(f"{self.name}: {seconds:.0f} s in all; reports in {self.reports.relative_to(ROOT)}")
        return int(not all(verdict.good for verdict in verdicts))

    def _take(self, guest: Path, common: Path, part: Part) -> chances.Verdict:
        verdict = chances.take(
            functools.partial(self._run, guest, common, part),
            lambda text: recipe.say(f"{part.name}: {text}"),
        )
        recipe.say(f"{part.name}: {verdict.summary}")
        return verdict

    def _run(
        self, guest: Path, common: Path, part: Part, name: str, checks: tuple[str, ...]
    ) -> outcome.Outcome:
        """Run the part, or these checks of it, in a guest of its own."""
        job = common.with_name(f"{part.name}-{name}")
        shutil.copytree(common, job)
        (job / "reports").mkdir()
        # Whoever runs the tests in the guest writes there.
        (job / "reports").chmod(0o777)
        (job / "job").write_text(part.script(checks))
        log = job / "log"
        try:
            code = machine.run(guest, job, part.seconds, self.machine)
            found = outcome.read(job / "reports", code, _text(log))
        except machine.GuestError as error:
            found = outcome.Outcome(log=f"{_text(log)}vm: {error}", trouble=str(error))
        # The usual run's reports are the part's; who asks why there was another finds both.
        folder = self.reports / (part.name if name == "all" else f"{part.name}-{name}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in [*(job / "reports").iterdir(), log, job / "console"]:
            if path.is_file():
                shutil.copy(path, folder)
        return found


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""
