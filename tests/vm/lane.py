"""The microVM walls' tests, where there need be no KVM: in a guest that QEMU emulates.

    python tests/vm/lane.py [name …]

Makes the guest if it is not there yet (as root, on Debian), builds the project's own wheels,
boots a guest with them for each part named (default: all, at the same time), runs it and
brings its reports back to ``reports/vm/PART``. Without what it needs it says so and ends
well, unless STOCKADE_REQUIRE names ``vm``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent import futures
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).parent))

from guest import machine, recipe

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports" / "vm"
#: The one factor by which time bounds are widened in the emulated guest.
TIME_FACTOR = 8
DISTRIBUTIONS = ("core", "plugins/hyperlight", "plugins/microsandbox")


@attrs.frozen
class Part:
    """One run of pytest in the guest."""

    name: str
    arguments: str
    seconds: int  #: the most that booting and running may take
    requires: str = ""  #: the walls that must be available
    before: str = ""  #: shell, in the guest
    #: Checks left out unless STOCKADE_VM_FULL is set: they cost minutes under emulation.
    left_out: tuple[str, ...] = ()


PARTS = (
    Part(
        "hyperlight", "tests/conformance/test_hyperlight.py tests/vm/inside/test_hyperlight.py",
        900, requires="hyperlight",
    ),
    Part(
        "microsandbox",
        "tests/conformance/test_microsandbox.py tests/vm/inside/test_microsandbox.py",
        900, requires="microsandbox",
        left_out=(
            "D8_input_of_fifty_mebibytes", "F1_fifty_mebibytes",
            "C11_an_idle_session_ends", "C6_close_may_be_called_again_and_destroy_not",
            "C2_ids_are_long_and_unlike", "B1_a_session_changes_no_configuration",
        ),
    ),
    Part(
        "without-kvm", "tests/vm/test_without_kvm.py", 240, requires="vm",
        before="mv /dev/kvm /dev/kvm.away",
    ),
)  # fmt: skip


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
        with futures.ThreadPoolExecutor(len(parts)) as pool:
            told = list(pool.map(lambda part: _run(guest, common, part), parts))
    for part, (log, _) in zip(parts, told, strict=True):
        print(f"== {part.name}\n{log}")
    good = [_count(part) and not wrong for part, (_, wrong) in zip(parts, told, strict=True)]
    print(f"vm: {time.monotonic() - began:.0f} s in all; reports in {REPORTS.relative_to(ROOT)}")
    return int(not all(good))


def _run(guest: Path, common: Path, part: Part) -> tuple[str, bool]:
    """What the part printed, and whether it failed."""
    job = common.with_name(part.name)
    shutil.copytree(common, job)
    (job / "reports").mkdir()
    (job / "job").write_text(_script(part))
    wrong, said = True, ""
    try:
        wrong = machine.run(guest, job, part.seconds) != 0
    except machine.GuestError as error:
        said = f"vm: {error}"
    log = job / "log"
    said = (log.read_text("utf-8", "replace") if log.exists() else "") + said
    folder = REPORTS / part.name
    folder.mkdir(parents=True)
    for path in [*(job / "reports").iterdir(), log, job / "console"]:
        if path.is_file():
            shutil.copy(path, folder)
    return said, wrong


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


def _script(part: Part) -> str:
    out = () if os.environ.get("STOCKADE_VM_FULL") else part.left_out
    chosen = f"-k 'not {' and not '.join(out)}' " if out else ""
    lines = [
        # In memory: the share is slow.
        "mkdir /tmp/work && cd /tmp/work && cp -r /mnt/site /mnt/tests /mnt/pyproject.toml .",
        f"export PYTHONPATH=/tmp/work/site:{recipe.SITE} PYTHONDONTWRITEBYTECODE=1 HOME=/root",
        f"export STOCKADE_TIME_FACTOR={TIME_FACTOR} STOCKADE_REPORTS=/mnt/reports",
        "sh /tmp/work/tests/vm/guest/busybox-root /srv/stockade-busybox",
        part.before or ":",
        # Ended inside first, so that what was printed until then is seen.
        f"STOCKADE_REQUIRE={part.requires} timeout -k 10 {part.seconds - 60} python3 -m pytest "
        f"-v --tb=short -p no:cacheprovider -o timeout={part.seconds} --durations=5 "
        f"--junitxml=/mnt/reports/junit.xml {chosen}{part.arguments}",
    ]
    return "\n".join([*lines, ""])


def _count(part: Part) -> bool:
    """Print the part's counts; whether something passed and nothing failed."""
    if part.left_out and not os.environ.get("STOCKADE_VM_FULL"):
        print(f"vm: {part.name}: left out, for time: {', '.join(part.left_out)}")
    path = REPORTS / part.name / "junit.xml"
    if not path.exists():
        print(f"vm: {part.name}: no report: it did not end")
        return False
    suite = next(ET.parse(path).getroot().iter("testsuite"))
    tests, failures, errors, skipped = (
        int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
    )
    wrong = failures + errors
    passed = tests - wrong - skipped
    print(
        f"vm: {part.name}: {passed} passed, {wrong} failed, {skipped} skipped or deviating, "
        f"in {float(suite.get('time', '0')):.0f} s"
    )
    return passed > 0 and not wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
