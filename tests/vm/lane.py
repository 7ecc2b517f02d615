"""The microVM walls' tests, where there need be no KVM: in a guest that QEMU emulates.

    python tests/vm/lane.py [name …]

Makes the guest if it is not there yet (as root, on Debian), builds the project's own wheels,
boots a guest with them for each part named (default: all; as many at the same time as there
are cpus), runs it and brings its reports back to ``reports/vm/PART``. Without what it needs it
says so and ends well, unless STOCKADE_REQUIRE names ``vm``.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guest import chances, machine, outcome, recipe
from parts import PARTS, Part

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports" / "vm"
DISTRIBUTIONS = ("core", "supervisor", "plugins/hyperlight", "plugins/microsandbox")


def main(names: list[str]) -> int:
    parts = [part for part in PARTS if not names or part.name in names]
    if not parts:
        print(f"vm: the parts are {', '.join(part.name for part in PARTS)}", file=sys.stderr)
        return 2
    try:
        guest = recipe.ensure()
    except recipe.NoGuestError as error:
        print(f"vm: no guest here: {error}", file=sys.stderr)
        return int("vm" in os.environ.get("STOCKADE_REQUIRE", "").split(","))
    began = time.monotonic()
    shutil.rmtree(REPORTS, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="stockade-vm-") as folder:
        common = Path(folder, "common")
        _prepare(common)
        # A guest takes a cpu to emulate: more of them at a time would all be late.
        with futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            verdicts = list(pool.map(functools.partial(_part, guest, common), parts))
    for part, verdict in zip(parts, verdicts, strict=True):
        for log in verdict.logs:
            print(f"== {part.name}\n{log}")
    for part, verdict in zip(parts, verdicts, strict=True):
        for text in verdict.reported:
            print(f"vm: {part.name}: {text}")
        print(f"vm: {part.name}: {verdict.summary}")
    print(f"vm: {time.monotonic() - began:.0f} s in all; reports in {REPORTS.relative_to(ROOT)}")
    return int(not all(verdict.good for verdict in verdicts))


def _part(guest: Path, common: Path, part: Part) -> chances.Verdict:
    verdict = chances.take(
        functools.partial(_run, guest, common, part),
        lambda text: recipe.say(f"{part.name}: {text}"),
    )
    recipe.say(f"{part.name}: {verdict.summary}")
    return verdict


def _run(
    guest: Path, common: Path, part: Part, name: str, checks: tuple[str, ...]
) -> outcome.Outcome:
    """Run the part, or these checks of it, in a guest of its own."""
    job = common.with_name(f"{part.name}-{name}")
    shutil.copytree(common, job)
    (job / "reports").mkdir()
    (job / "job").write_text(part.script(checks))
    log = job / "log"
    try:
        code = machine.run(guest, job, part.seconds)
        found = outcome.read(job / "reports", code, _text(log))
    except machine.GuestError as error:
        found = outcome.Outcome(log=f"{_text(log)}vm: {error}", trouble=str(error))
    # The usual run's reports are the part's; who asks why there was another finds both.
    folder = REPORTS / (part.name if name == "all" else f"{part.name}-{name}")
    folder.mkdir(parents=True)
    for path in [*(job / "reports").iterdir(), log, job / "console"]:
        if path.is_file():
            shutil.copy(path, folder)
    return found


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def _prepare(job: Path) -> None:
    """Everything the guest needs of the project: its wheels, installed, and its tests."""
    with tempfile.TemporaryDirectory() as wheels:
        pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
        sources = [str(ROOT / name) for name in DISTRIBUTIONS]
        recipe.call(*pip, "wheel", "--no-deps", "-w", wheels, *sources)
        made = [str(path) for path in Path(wheels).glob("*.whl")]
        recipe.call(*pip, "install", "--no-deps", "--target", str(job / "site"), *made)
    shutil.copy(ROOT / "pyproject.toml", job)
    tests = job / "tests"
    tests.mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tests)
    for name in ("conformance", "vm"):
        shutil.copytree(
            ROOT / "tests" / name, tests / name, ignore=shutil.ignore_patterns("__pycache__")
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
