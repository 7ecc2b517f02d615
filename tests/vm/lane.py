"""The microVM walls' tests, where there need be no KVM: in a guest that QEMU emulates.

    python tests/vm/lane.py [name …]

Makes the guest if it is not there yet (as root, on Debian), builds the project's own wheels,
boots the guest with them, runs the parts named (default: all) and brings their reports back
to ``reports/vm``. Without what it needs it says so and ends well, unless STOCKADE_REQUIRE
names ``vm``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).parent))

from guest import machine, recipe

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports" / "vm"
#: The one factor by which time bounds are widened in the emulated guest.
TIME_FACTOR = 8
#: The most that booting and all parts may take.
LIMIT_SECONDS = 1500
DISTRIBUTIONS = ("core", "plugins/hyperlight", "plugins/microsandbox")


@attrs.frozen
class Part:
    """One run of pytest in the guest."""

    name: str
    arguments: str
    seconds: int
    requires: str = ""  #: the walls that must be available
    before: str = ""  #: shell, in the guest


PARTS = (
    Part(
        "hyperlight", "tests/conformance/test_hyperlight.py tests/vm/inside/test_hyperlight.py",
        600, requires="hyperlight",
    ),
    Part(
        "microsandbox",
        "tests/conformance/test_microsandbox.py tests/vm/inside/test_microsandbox.py",
        600, requires="microsandbox",
    ),
    Part(
        "without-kvm", "tests/vm/test_without_kvm.py", 120, requires="vm",
        before="mv /dev/kvm /dev/kvm.away",
    ),
)  # fmt: skip


def main(names: list[str]) -> int:
    parts = [part for part in PARTS if not names or part.name in names]
    try:
        guest = recipe.ensure()
    except recipe.NoGuestError as error:
        print(f"vm: no guest here: {error}", file=sys.stderr)
        return int("vm" in os.environ.get("STOCKADE_REQUIRE", "").split(","))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stockade-vm-") as folder:
        job = Path(folder)
        _prepare(job, parts)
        try:
            code = machine.run(guest, job, LIMIT_SECONDS)
        except machine.GuestError as error:
            print(f"vm: {error}", file=sys.stderr)
            return 1
        finally:
            _bring_back(job)
        sys.stdout.write((job / "log").read_text("utf-8", "replace"))
    failed = _tell(parts, time.monotonic() - began)
    return 1 if failed or code else 0


def _prepare(job: Path, parts: list[Part]) -> None:
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
    (job / "reports").mkdir()
    (job / "job").write_text(_script(parts))


def _script(parts: list[Part]) -> str:
    lines = [
        # In memory: the share is slow.
        "mkdir /tmp/work && cd /tmp/work && cp -r /mnt/site /mnt/tests /mnt/pyproject.toml .",
        f"export PYTHONPATH=/tmp/work/site:{recipe.SITE} PYTHONDONTWRITEBYTECODE=1 HOME=/root",
        f"export STOCKADE_TIME_FACTOR={TIME_FACTOR} STOCKADE_REPORTS=/mnt/reports",
        "sh /tmp/work/tests/vm/guest/busybox-root /srv/stockade-busybox",
        "failed=0",
    ]
    for part in parts:
        lines += [
            part.before or ":",
            f"STOCKADE_REQUIRE={part.requires} timeout -k 10 {part.seconds} python3 -m pytest -q "
            f"-p no:cacheprovider -o timeout={part.seconds} --durations=5 "
            f"--junitxml=/mnt/reports/{part.name}.xml {part.arguments} || failed=1",
        ]
    return "\n".join([*lines, "exit $failed", ""])


def _bring_back(job: Path) -> None:
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    for path in [*(job / "reports").iterdir(), job / "log", job / "console"]:
        if path.is_file():
            shutil.copy(path, REPORTS)


def _tell(parts: list[Part], seconds: float) -> bool:
    """Print each part's counts; whether any failed or gave none."""
    bad = False
    for part in parts:
        path = REPORTS / f"{part.name}.xml"
        if not path.exists():
            print(f"vm: {part.name}: no report: it did not end")
            bad = True
            continue
        suite = next(ET.parse(path).getroot().iter("testsuite"))
        count = {
            key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        }
        passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
        wrong = count["failures"] + count["errors"]
        bad = bad or wrong > 0 or passed == 0
        print(
            f"vm: {part.name}: {passed} passed, {wrong} failed, {count['skipped']} skipped or "
            f"deviating, in {float(suite.get('time', '0')):.0f} s"
        )
    print(f"vm: {seconds:.0f} s in all; reports in {REPORTS.relative_to(ROOT)}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
