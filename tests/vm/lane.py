"""The microVM walls' tests, where there need be no KVM: in a guest that QEMU emulates.

    python tests/vm/lane.py [name …]

Makes the guest if it is not there yet (as root, on Debian), builds the project's own wheels,
boots a guest with them for each part named (default: all; as many at the same time as there
are cpus), runs it and brings its reports back to ``reports/vm/PART``. Without what it needs it
says so and ends well, unless STOCKADE_REQUIRE names ``vm``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guest import lanes, machine, recipe
from parts import PARTS

DISTRIBUTIONS = ("core", "supervisor", "plugins/hyperlight", "plugins/microsandbox")


def main(names: list[str]) -> int:
    parts = [part for part in PARTS if not names or part.name in names]
    if not parts:
        print(f"vm: the parts are {', '.join(part.name for part in PARTS)}", file=sys.stderr)
        return 2
    lane = lanes.Lane(name="vm", guest=recipe.MICROVMS, machine=machine.NESTED, prepare=_prepare)
    return lane.run(parts)


def _prepare(job: Path) -> None:
    """Everything the guest needs of the project: its wheels, installed, and its tests."""
    with tempfile.TemporaryDirectory() as wheels:
        pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
        sources = [str(lanes.ROOT / name) for name in DISTRIBUTIONS]
        recipe.call(*pip, "wheel", "--no-deps", "-w", wheels, *sources)
        made = [str(path) for path in Path(wheels).glob("*.whl")]
        recipe.call(*pip, "install", "--no-deps", "--target", str(job / "site"), *made)
    shutil.copy(lanes.ROOT / "pyproject.toml", job)
    tests = job / "tests"
    tests.mkdir()
    shutil.copy(lanes.ROOT / "tests/conftest.py", tests)
    for name in ("conformance", "vm"):
        shutil.copytree(
            lanes.ROOT / "tests" / name, tests / name, ignore=shutil.ignore_patterns("__pycache__")
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
