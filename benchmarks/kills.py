"""How late a deadline ends what does not want to end, and what is left of it (D6).

    python benchmarks/kills.py [PROVIDER] [--rounds N]

Each kind runs N times under a deadline of half a second. Printed: the median and the largest
lateness in milliseconds, how many processes were left, and whether the session was usable.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import stockade
from stockade.results import Verdict

DEADLINE = 0.5
KINDS = {
    "daemons": "(setsid sleep 333 &) ; setsid setsid sleep 333 & sleep 333",
    "double forks": "for i in 1 2 3 4; do (sh -c '(sleep 333 &) ; sleep 333' &) ; done; sleep 333",
    "lowered limits": "(setsid sh -c 'ulimit -d 1099511627774; exec sleep 333' &); "
    "ulimit -n 20; sleep 333",
    "bomb: pairs": "b() { b | b & }; b; sleep 333",
    "bomb: chain": "while :; do (sleep 333 &) 2>/dev/null; done",
    "bomb: sessions": "f() { setsid sh -c 'sleep 333' & f & }; f; sleep 333",
    "stopped": "sleep 333 & kill -STOP $!; (sh -c 'kill -STOP $$' &) ; kill -STOP $$; sleep 333",
    "closed streams": "exec <&- >&- 2>&-; sleep 333 & sleep 333",
    "full /tmp": "head -c 9000000000 /dev/zero >/tmp/full 2>/dev/null; sleep 333",
    "signals ignored": "trap '' HUP INT QUIT TERM PIPE USR1; sleep 333 & sleep 333; sleep 333",
}
LEFT = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; done 2>/dev/null | grep -c '33[3]'"


def once(session: stockade.Session, line: str) -> tuple[float, int]:
    began = time.monotonic()
    result = session.shell(line, timeout=DEADLINE)
    late = time.monotonic() - began - DEADLINE
    if result.verdict is not Verdict.TIMED_OUT:
        late = 0.0  # it met a limit first
    left = session.shell(LEFT).stdout.strip()
    session.shell("rm -f /tmp/full")
    return late * 1000, int(left or -1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider", nargs="?", default="docker:stockade-test/python")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=64)
    arguments = parser.parse_args()
    bad = 0
    print(f"{'kind':18} {'median':>8} {'most':>8}  over 100 ms  left  sessions lost")
    for kind, line in KINDS.items():
        lates, left, lost = [], 0, 0
        session = stockade.open(arguments.provider, max_processes=arguments.processes)
        for _ in range(arguments.rounds):
            try:
                late, rest = once(session, line)
                lates.append(late)
                left += max(0, rest)
            except stockade.StockadeError:
                lost += 1
                session.close()
                session = stockade.open(arguments.provider, max_processes=arguments.processes)
        session.close()
        over = sum(late > 100 for late in lates)
        bad += over + left + lost
        middle, most = (statistics.median(lates), max(lates)) if lates else (0.0, 0.0)
        print(f"{kind:18} {middle:8.1f} {most:8.1f}  {over:11}  {left:4}  {lost}", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
