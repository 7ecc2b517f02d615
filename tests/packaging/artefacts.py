"""What a release publishes: built twice, compared byte by byte, and checked.

    python tests/packaging/artefacts.py dist            # tox -e artefacts
    python tests/packaging/artefacts.py dist --sbom stockade-docker

Everything comes from clean clones of HEAD. The first time, the wheel is built from the source
distribution, as an index's users would; the second time from the clone. SHA256SUMS is written last.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stockade.system.installing import DISTRIBUTIONS

ROOT = Path(__file__).parents[2]
_SUMS = "SHA256SUMS"


def run(*command: str | Path, **options: object) -> None:
    """Run a command; what it printed is shown if it fails, and the build ends."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def clone(into: Path) -> Path:
    """A clean clone of HEAD."""
    run("git", "clone", "-q", "--no-hardlinks", ROOT, into)
    return into


def projects(checkout: Path) -> Iterator[Path]:
    """The folders of all distributions."""
    yield from (checkout / "core", checkout / "supervisor")
    yield from sorted(path.parent for path in (checkout / "plugins").glob("*/pyproject.toml"))


def epoch() -> dict[str, str]:
    """Variables of a build: the time of the commit is that of every file."""
    shown = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {**os.environ, "SOURCE_DATE_EPOCH": shown.stdout.strip()}


def build(checkout: Path, into: Path, *, through_sdist: bool) -> None:
    """All wheels and source distributions of a clone."""
    for project in projects(checkout):
        if through_sdist:
            command = ["build", "--no-isolation", "--outdir", str(into), str(project)]
            run(sys.executable, "-m", *command, env=epoch())
        else:
            command = ["hatchling", "build", "--directory", str(into)]
            run(sys.executable, "-m", *command, cwd=project, env=epoch())


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every wheel and source distribution, by its name."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix in (".whl", ".gz")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names that are not in both with the same bytes."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def make(into: Path) -> None:
    """Build twice, compare, check, and write the sums."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="stockade-artefacts-") as folder:
        again = Path(folder, "again")
        build(clone(Path(folder, "one")), into, through_sdist=True)
        build(clone(Path(folder, "elsewhere")), again, through_sdist=False)
        found = sums(into)
        if differ := differing(found, sums(again)):
            sys.exit(f"not the same bytes the second time: {', '.join(differ)}")
    if len(found) != 2 * len(DISTRIBUTIONS):
        sys.exit(f"{len(found)} artefacts, and {len(DISTRIBUTIONS)} distributions")
    paths = [into / name for name in found]
    run(sys.executable, "-m", "twine", "check", "--strict", *paths)
    wheels = [path for path in paths if path.suffix == ".whl"]
    run(sys.executable, "-m", "check_wheel_contents", *wheels)
    lines = [f"{digest}  {name}\n" for name, digest in found.items()]
    (into / _SUMS).write_text("".join(lines))
    print(f"{len(found)} artefacts in {into}, the same bytes twice; sums in {_SUMS}")


def needed(name: str) -> Iterator[str]:
    """A distribution of the project and those of the project that it needs."""
    for other in DISTRIBUTIONS[name]:
        yield from needed(other)
    yield name


def sbom(folder: Path, name: str) -> None:
    """A list of all that an environment with this distribution alone holds, in CycloneDX."""
    wheels = [
        next(folder.glob(f"{one.replace('-', '_')}-[0-9]*.whl"))
        for one in dict.fromkeys(needed(name))
    ]
    with tempfile.TemporaryDirectory(prefix="stockade-sbom-") as place:
        run(sys.executable, "-m", "venv", "--without-pip", place)
        inside = Path(place, "bin", "python")
        paths = [wheel.resolve() for wheel in wheels]
        run(sys.executable, "-m", "pip", "--python", inside, "install", "-q", *paths)
        out = folder / f"{name}.cdx.json"
        run(
            *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"),
            *("--output-format", "JSON", "--output-file", out, inside),
        )
    # Where the wheels lay on this machine is nobody's business, and would differ elsewhere.
    out.write_text(out.read_text().replace(f"{folder.resolve().as_uri()}/", ""))
    print(out)


def main(arguments: Sequence[str]) -> None:
    """Build and check into the folder, or make SBOMs of what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sbom", nargs="+", metavar="NAME", choices=list(DISTRIBUTIONS))
    given = parser.parse_args(arguments)
    if given.sbom is None:
        make(given.folder)
    for name in given.sbom or ():
        sbom(given.folder, name)


if __name__ == "__main__":
    main(sys.argv[1:])
