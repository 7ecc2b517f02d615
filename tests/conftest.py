"""What all tests share: walls that CI promises must be there, and waiting."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from stockade.sessions._providers import inspect_providers

# A shell starts what it puts into the background with these ignored, and so would be every
# program that the tests start and interrupt.
for _number, _usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

#: Where the reference wall is registered: with these tests, and with no installed distribution.
#: For the processes that they start, too.
REGISTERED = str(Path(__file__).parent / "registered")
os.environ["PYTHONPATH"] = os.pathsep.join(
    path for path in (REGISTERED, os.environ.get("PYTHONPATH")) if path
)

# What is asked of this run of pytest (xdist's workers, say) is not asked of those that tests start.
os.environ.pop("PYTEST_ADDOPTS", None)
#: The tests' own ledger, also for the processes that they start: never the user's.
_STATE = tempfile.mkdtemp(prefix="stockade-tests-")
os.environ["XDG_STATE_HOME"] = _STATE
atexit.register(shutil.rmtree, _STATE, ignore_errors=True)
#: The same examples at every run, unless HYPOTHESIS_PROFILE is "explore".
settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def examples(count: int) -> settings:
    """So many examples of a property, times STOCKADE_FUZZ (default 1)."""
    return settings(max_examples=int(count * float(os.environ.get("STOCKADE_FUZZ", "1"))))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of the conformance suite, after a run that held the mutants to it."""
    caught = sum(
        "test_the_mutant_is_caught" in report.nodeid
        for report in terminalreporter.stats.get("passed", ())
    )
    if caught:
        from stockade.testing.clauses import CLAUSES
        from stockade.testing.runner import checks_of

        terminalreporter.write_line(
            f"conformance suite: {len(CLAUSES)} clauses, {len(checks_of())} checks, "
            f"{caught} mutants caught"
        )


#: Where engines and walls are played by the tests: nothing there is the machine's.
_PLAYED = ("core/ledger", "core/sessions")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What looks over the whole machine for what was left, and mutants that leave something,
    run one at a time, whichever of a run's processes they are in. First of all that stands
    around a test: the wait counts in no test's time limit."""
    played = any(Path(__file__).parent / folder in item.path.parents for folder in _PLAYED)
    if "C9" not in item.name or played:
        return (yield)
    try:
        import fcntl
    except ImportError:  # a system that is played here: nothing runs beside it
        return (yield)
    with open(__file__, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)


#: The files that take a minute and more, in the order in which a run of several processes begins
#: them, before all others: one of them that came last would run while nothing is left for the
#: rest. The crashes hold the lock above for minutes, so what comes beside them does without it.
LONG = (
    "durability/test_crash.py",
    "work/test_work.py",
    "durability/test_command_line.py",
    "conformance/test_hostile_walls.py",
    "conformance/test_gvisor.py",
    "conformance/test_mutants.py",
    "conformance/test_docker.py",
    "conformance/test_podman.py",
    "conformance/test_bubblewrap.py",
    "conformance/test_landlock.py",
    "conformance/test_reference.py",
    "conformance/test_chaos.py",
    "plugins/bubblewrap/test_versions.py",
    "packaging/test_wheels.py",
    "core/selection/test_plugins.py",
    "durability/test_faults.py",
    "docs/test_howto.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under xdist, which hands the files out as they stand here (--no-loadscope-reorder)."""
    if not hasattr(config, "workerinput"):
        return
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


def until(what: Callable[[], object], seconds: float = 20.0) -> bool:
    """Wait until it is so; whether it came to be."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def need(name: str) -> None:
    """Skip with the provider's own reason where its wall is not available.

    ``STOCKADE_REQUIRE`` names the walls that must be: there it fails instead.
    """
    found = inspect_providers([name])
    if found and found[0].available:
        return
    reason = found[0].reason if found else f"no provider {name!r} is installed"
    if name in os.environ.get("STOCKADE_REQUIRE", "").split(","):
        pytest.fail(f"{name} is required here and not available: {reason}")
    pytest.skip(f"{name}: {reason}")


@pytest.fixture(scope="session")
def landlock() -> str:
    """The provider string, where the wall is available."""
    need("landlock")
    return "landlock"


@pytest.fixture(params=["landlock", "bubblewrap"])
def wall(request: pytest.FixtureRequest) -> str:
    """Each wall of this machine's own processes, where it is available."""
    need(request.param)
    return str(request.param)
