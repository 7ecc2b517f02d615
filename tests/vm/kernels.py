"""The embedded walls on the kernels of Debian's releases, in a guest that QEMU emulates.

    python tests/vm/kernels.py [part …]

The short form boots Debian 12 (Linux 6.1, Landlock's version 2, cgroup 2) as root, as an ordinary
user to whom a cgroup is delegated, and as one to whom none is (a plain login). Each runs the
README's two commands as printed, the second with a chosen part of the suite: A, C5, C9, D2, D6
and E. STOCKADE_KERNELS=long adds Debian 13 (Linux 6.12). Parts that are named run alone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import attrs
from guest import lanes, machine, recipe

#: The one factor by which time bounds are widened in the emulated guest, on a machine at rest.
#: STOCKADE_TIME_FACTOR gives another one.
TIME_FACTOR = 8
#: Past so long in one check, the guest's log gets the stacks of all threads, once.
_STANDING_SECONDS = 180
#: What is run of the suite; the names of its checks begin with their clauses.
_CLAUSES = ("A", "C5_", "C9_", "D2_", "D6_", "E")
#: What the README asks of a machine (Python with venv), Debian's bwrap, and what the guest's own
#: script and the suite's programs want.
_PACKAGES = (
    "linux-image-amd64",
    "python3",
    "python3-venv",
    "bubblewrap",
    "ca-certificates",
    "iproute2",
    "kmod",
)


@attrs.frozen(kw_only=True)
class Debian:
    """One of Debian's releases, as it comes."""

    suite: str
    python: str  #: its Python's version, for which packages are fetched

    @property
    def guest(self) -> recipe.Recipe:
        return recipe.Recipe(name=self.suite, suite=self.suite, packages=_PACKAGES)


BOOKWORM = Debian(suite="bookworm", python="3.11")
TRIXIE = Debian(suite="trixie", python="3.13")


@attrs.frozen
class Part:
    """The README's two commands, as somebody."""

    debian: Debian
    who: str  #: a word of guest/debian: root, user or login
    tests: tuple[str, ...]  #: files of the suite
    seconds: int = 5400

    @property
    def name(self) -> str:
        return f"{self.debian.suite}-{self.who}"

    def script(self, checks: tuple[str, ...] = ()) -> str:
        """The job of a guest: these checks, or all of the part's."""
        clauses = " or ".join(f"test_{c}" for c in _CLAUSES)
        # Limits are watched where none can be held: of the plain login all of them are.
        chosen = checks or ("-k", f"({clauses}) and not Watched", *self.tests)
        words = (
            f"-v --tb=short -p no:cacheprovider -o timeout={self.seconds} "
            f"-o faulthandler_timeout={_STANDING_SECONDS} --durations=10 "
            f"--junitxml=/mnt/reports/junit.xml {shlex.join(chosen)}"
        )
        # Ended inside first, as from a keyboard: then pytest says what failed until then.
        limit = f"timeout -s INT -k 60 {self.seconds - 120}"
        factor = float(os.environ.get("STOCKADE_TIME_FACTOR") or TIME_FACTOR)
        return (
            f"export STOCKADE_TIME_FACTOR={factor:g} PYTEST_ADDOPTS={shlex.quote(words)}\n"
            f"exec {limit} sh /mnt/debian {self.who}\n"
        )


_LANDLOCK = "tests/conformance/test_landlock.py"
_BUBBLEWRAP = "tests/conformance/test_bubblewrap.py"
#: No part of the usual run of the tests: it is there as the walls that it stands for.
_LOCAL = "tests/vm/inside/local.py"


def _parts(debian: Debian) -> tuple[Part, ...]:
    """`local` chooses bubblewrap in these guests, so its checks cover both walls."""
    return (
        Part(debian, "root", (_LANDLOCK, _LOCAL)),
        Part(debian, "user", (_LANDLOCK, _BUBBLEWRAP)),
        Part(debian, "login", (_LANDLOCK, _LOCAL)),
    )


def main(names: list[str]) -> int:
    releases = (BOOKWORM, TRIXIE)
    every = [part for release in releases for part in _parts(release)]
    long = os.environ.get("STOCKADE_KERNELS") == "long"
    wanted = names or [part.name for part in every if long or part.debian is BOOKWORM]
    if unknown := set(wanted) - {part.name for part in every}:
        known = ", ".join(part.name for part in every)
        print(f"kernels: no part {', '.join(unknown)}: the parts are {known}", file=sys.stderr)
        return 2
    code = 0
    for release in releases:
        if parts := [part for part in every if part.debian is release and part.name in wanted]:
            code |= _lane(release).run(parts)
    return code


def _lane(debian: Debian) -> lanes.Lane:
    return lanes.Lane(
        name="kernels",
        guest=debian.guest,
        machine=machine.Machine(memory="2G", cpus=2),
        prepare=lambda job: _prepare(job, debian.python),
    )


def _prepare(job: Path, python: str) -> None:
    """What a fresh clone and an index of packages would give: there is no network inside."""
    job.mkdir()
    listed = ("git", "-C", str(lanes.ROOT), "ls-files", "-co", "--exclude-standard", "-z")
    names = subprocess.run(listed, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
    there = [name for name in names if name and os.path.lexists(lanes.ROOT / os.fsdecode(name))]
    subprocess.run(
        ["tar", "-C", str(lanes.ROOT), "--null", "-T", "-", "-cf", str(job / "clone.tar")],
        input=b"\0".join(there),
        check=True,
    )
    shutil.copy(recipe.HERE / "debian", job)
    _fetch(job / "wheels", python)


def _fetch(wheels: Path, python: str) -> None:
    """The packages of others that the tests' requirements come to, for that Python."""
    lines = (lanes.ROOT / "tests/requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    with tempfile.TemporaryDirectory() as folder:
        own = [_build(pip, line, folder) if line.startswith("./") else line for line in wanted]
        options = ("--only-binary=:all:", "--python-version", python, "-d", str(wheels))
        # What pip's own environments for building want beside it.
        recipe.call(*pip, "download", *options, *own, "setuptools", "wheel")
    for path in wheels.glob("stockade*.whl"):
        path.unlink()  # those are built inside, from the clone


def _build(pip: Sequence[str], line: str, folder: str) -> str:
    """Build one of the project's distributions; the requirement that means that wheel."""
    source, _, extras = line.partition("[")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        recipe.call(*pip, "wheel", "--no-deps", "-w", place, str(lanes.ROOT / source))
        (made,) = Path(place).glob("*.whl")
        kept = Path(folder, made.name)
        made.rename(kept)
    name = made.name.partition("-")[0]
    return f"{name}{'[' if extras else ''}{extras} @ {kept.as_uri()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
