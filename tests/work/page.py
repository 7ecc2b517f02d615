"""The table of docs/work.md: written from a run, and held to each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from work.jobs import JOBS, WALLS, Job

__all__ = ["PAGE", "cell", "rows", "write"]

PAGE = Path(__file__).parents[2] / "docs" / "work.md"
_BEGIN, _END = "<!-- of the run -->\n", "<!-- end -->\n"


def cell(job: Job, wall: str, works: bool) -> str:
    return "yes" if works else f"no: {job.cannot.get(wall, 'it fails')}"


def rows() -> dict[tuple[str, str], str]:
    """What the page says, by the job's name and the wall's."""
    table = PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0].splitlines()
    found = {}
    for line in table[2:]:
        name, *cells = [part.strip() for part in line.strip("|").split(" | ")]
        found.update({(name, wall): said for wall, said in zip(WALLS, cells, strict=True)})
    return found


def write(seen: Mapping[tuple[str, str], str]) -> None:
    """Have the page say what was seen; of what did not run it says what it said before."""
    said = {**rows(), **seen}
    head, _, rest = PAGE.read_text().partition(_BEGIN)
    lines = [["", *WALLS], ["---"] * (len(WALLS) + 1)]
    lines += [
        [job.name, *(said.get((job.name, wall), "not run") for wall in WALLS)] for job in JOBS
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    PAGE.write_text(head + _BEGIN + table + _END + rest.partition(_END)[2])
