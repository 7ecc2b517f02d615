"""The limits of the configuration, each passed on purpose: E2, E4, E5, E6.

Each probe goes past its limit by a bounded amount, so that a wall which holds
nothing lets through some hundred megabytes, or a hundred sleeping processes.
"""

from __future__ import annotations

import re

from stockade.capabilities import Feature, Isolation
from stockade.errors import SandboxLostError, SandboxStartError, StockadeError
from stockade.results import SandboxResult, Verdict
from stockade.session import Session
from stockade.testing.probes.base import Bench, Measured, Outcome, Probe, held_if

__all__ = ["PROBES"]

MEMORY_MB = 96
PROCESSES = 48
DISK_MB = 8
CPUS = 0.4


def _usable(session: Session) -> bool:
    try:
        return session.shell("echo ok", timeout=10).stdout.strip() == "ok"
    except StockadeError:
        return False


def _not_started(limit: str, error: SandboxStartError) -> Measured:
    return Measured(Outcome.UNKNOWN, f"no sandbox started with {limit}: {error}")


#: Doubles a text until it is N bytes long; as the program itself, so that the
#: verdict is its own.
_ALLOCATE = """
command -v awk >/dev/null || exit 99
LC_ALL=C exec awk 'BEGIN { s = "0123456789abcdef"; while (length(s) < %d) s = s s; print "all" }'
"""


def memory(bench: Bench) -> Measured:
    """Going past the limit ends the program with that verdict; the session goes on (E5)."""
    try:
        with bench.another(memory_mb=MEMORY_MB) as session:
            return _memory(bench, session)
    except SandboxStartError as error:
        return _not_started(f"{MEMORY_MB} MB", error)


def _memory(bench: Bench, session: Session) -> Measured:
    one_kernel = bench.provider.wall.isolation is Isolation.KERNEL
    try:
        result = bench.sh(_ALLOCATE % (3 * MEMORY_MB * 1024 * 1024), session=session)
    except SandboxLostError as error:
        return Measured(Outcome.BROKEN, f"the sandbox was lost: {error}")
    if result.exit_code == 99 and result.verdict is Verdict.EXITED:
        return Measured(Outcome.UNKNOWN, "no awk inside to allocate with")
    if "all" in result.stdout:
        return Measured(Outcome.BROKEN, f"took {3 * MEMORY_MB} MB under {MEMORY_MB} MB")
    if result.verdict is not Verdict.OUT_OF_MEMORY:
        return Measured(Outcome.BROKEN, f"ended as {result.verdict} ({result.exit_code})")
    if not _usable(session):
        # One kernel holds program and session there: the contract lets it end.
        return held_if(one_kernel, "ended as out of memory, and the session with it")
    return Measured(Outcome.HELD, f"ended as out of memory under {MEMORY_MB} MB")


_FORK = """
i=0
while [ $i -lt %d ]; do sleep 3 & i=$((i+1)); echo $i; done
"""


def processes(bench: Bench) -> Measured:
    """Forking past the limit fails inside, and the session stays usable (E4)."""
    asked = 3 * PROCESSES
    try:
        with bench.another(max_processes=PROCESSES) as session:
            result = bench.sh(_FORK % asked, session=session, timeout=20)
            started = len(result.stdout.split())
            usable = _usable(session)
    except SandboxStartError as error:
        return _not_started(f"{PROCESSES} processes", error)
    if not usable and started <= PROCESSES:
        return Measured(Outcome.BROKEN, "the session was not usable afterwards")
    return held_if(started <= PROCESSES, f"{started} of {asked} started under {PROCESSES}")


_FILL = """
for f in ./stockade-fill /tmp/stockade-fill; do
  head -c %d /dev/zero > "$f" 2>/dev/null
  wc -c < "$f"; rm -f "$f"
done; :
"""


def disk(bench: Bench) -> Measured:
    """The working folder and /tmp are bounded; filling them leaves the session usable (E2)."""
    asked = 4 * DISK_MB
    try:
        with bench.another(disk_mb=DISK_MB) as session:
            result = bench.sh(_FILL % (asked * 1024 * 1024), session=session)
            usable = _usable(session)
    except SandboxStartError as error:
        return _not_started(f"{DISK_MB} MB of disk", error)
    sizes = [int(word) / 1024 / 1024 for word in result.stdout.split() if word.isdigit()]
    if len(sizes) < 2:
        return Measured(Outcome.UNKNOWN, f"filling ended as {result.verdict}: {result.stderr:.80}")
    detail = f"{sizes[0]:.0f} MB and {sizes[1]:.0f} MB of {asked} fitted under {DISK_MB} MB"
    if max(sizes) <= 0:
        return Measured(Outcome.UNKNOWN, "nothing could be written from /dev/zero")
    return held_if(max(sizes) <= DISK_MB * 1.05 and usable, detail)


#: Two busy loops for two seconds; `times` prints on its second line what children used.
_BUSY = """
(while :; do :; done) & a=$!
(while :; do :; done) & b=$!
sleep 2; kill -9 $a $b; wait 2>/dev/null; times
"""


def cpu(bench: Bench) -> Measured:
    """Two busy loops get no more than the limit (E6)."""
    try:
        with bench.another(cpu_limit=CPUS) as session:
            result = bench.sh(_BUSY, session=session, timeout=30)
    except SandboxStartError as error:
        return _not_started(f"{CPUS:g} cpus", error)
    used = _children_seconds(result)
    if used is None:
        return Measured(Outcome.UNKNOWN, "the shell inside does not report used times")
    share = used / max(result.duration_seconds, 2.0)
    if share > CPUS * 1.3 and bench.provider.wall.isolation is Isolation.KERNEL:
        words = "a kernel of its own inside counts the time as it likes"
        return Measured(Outcome.UNKNOWN, f"{words}: {share:.2f} cpus reported under {CPUS:g}")
    # A quota is handed out in slices; the first of them is full at the start.
    return held_if(share <= CPUS * 1.3, f"{share:.2f} cpus used under {CPUS:g}")


def _children_seconds(result: SandboxResult) -> float | None:
    found = re.findall(r"(\d+)m([\d.]+)s", result.stdout)
    if len(found) != 4:
        return None
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in found[2:])


PROBES = (
    Probe(name="memory limit", clause="E5", feature=Feature.MEMORY, run=memory),
    Probe(name="process limit", clause="E4", feature=Feature.PROCESSES, run=processes),
    Probe(name="disk limit", clause="E2", feature=Feature.DISK, run=disk),
    Probe(name="cpu limit", clause="E6", feature=Feature.CPU, run=cpu),
)
