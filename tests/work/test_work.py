"""Work as people do it: real programs behind each wall, and the page that says what works.

STOCKADE_WORK=long runs what needs large packages, too; STOCKADE_WORK_PAGE=write has the page
say what was seen. Where STOCKADE_REQUIRE names ``work`` a program that is missing is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import stockade
from conftest import need
from work import page
from work.jobs import JOBS, WALLS, Job
from work.made import Served, serving

pytestmark = pytest.mark.timeout(300)

_LONG = os.environ.get("STOCKADE_WORK") == "long"
_SECONDS = 240.0
#: What was seen, by the job's name and the wall's: for the page.
_SEEN: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), "pypi.internal") as served:
        yield served


def missing(reason: str) -> None:
    """Skip, or fail where the engines' script promises the programs."""
    if "work" in os.environ.get("STOCKADE_REQUIRE", "").split(","):
        pytest.fail(f"work is required here, and {reason}", False)
    pytest.skip(reason)


def opened(wall: str, job: Job, served: Served) -> stockade.Session:
    more: dict[str, Any] = dict(job.options)
    more["network_allow"] = tuple(served.allowed(host) for host in job.hosts)
    try:
        return stockade.open(WALLS[wall], timeout_seconds=_SECONDS, **more)
    except stockade.SandboxStartError as error:
        if "stockade-test/work" not in str(error):
            raise
        missing(f"{error}: .ci/engines up makes it")
        raise


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_job(job: Job, wall: str, served: Served) -> None:
    need(wall)
    if job.long and not _LONG:
        pytest.skip("in the long form alone: STOCKADE_WORK=long")
    with opened(wall, job, served) as session:
        for line in job.needs.splitlines():
            if not session.shell(line).success:
                missing(f"{wall} has no {line}")
        for name, data in {**job.files, "index.pem": served.certificate}.items():
            session.files.write(name, data)
        version = session.run(
            ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        )
        ports = {"PORT": str(served.port), "TLS_PORT": str(served.tls_port)}
        result = session.run(["bash", "-c", job.script], env=ports)
    expected = job.prints.replace("VERSION", f"python{version.stdout.strip()}")
    works = result.stdout == expected
    _SEEN[job.name, wall] = page.cell(job, wall, works)
    if wall in job.cannot and works:
        pytest.fail(f"it works: {wall} can do it, and the table says why not", False)
    elif wall not in job.cannot and not works:
        seen = f"exit code {result.exit_code} ({result.verdict}), {result.stdout!r}"
        pytest.fail(f"expected: {expected!r}\nseen:     {seen}\n{result.stderr}", False)


def test_the_page_says_what_was_seen() -> None:
    if os.environ.get("STOCKADE_WORK_PAGE") == "write":
        page.write(_SEEN)
    assert {key: said for key, said in page.rows().items() if key in _SEEN} == _SEEN
    assert [name for name, _ in page.rows()][:: len(WALLS)] == [job.name for job in JOBS]
