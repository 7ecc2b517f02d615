"""How executions end: exit codes (D2), deadlines (D6), what is left behind (D7)."""

from __future__ import annotations

import secrets
import time

from stockade.capabilities import Feature
from stockade.results import SandboxResult, Verdict
from stockade.testing.probes.base import Bench, Measured, Outcome, Probe, held_if

__all__ = ["PROBES"]

#: beat FILE: a sign of life every tenth of a second, for 30 s at most, so that
#: one which nobody ends does not stay for ever.
_BEAT = """
beat='i=0; while [ $i -lt 300 ]; do echo x >> "$0"; sleep 0.1; i=$((i+1)); done'
"""


def _ending(result: SandboxResult) -> str:
    return f"{result.verdict} {result.exit_code}"


def exit_codes(bench: Bench) -> Measured:
    """Codes arrive exact, and a code is not taken for a signal (D2, D3)."""
    session = bench.session
    name = f"stockade-{secrets.token_hex(8)}"
    bench.sh(f"echo echo > {name}; chmod 644 {name}")
    tries = {
        "exit 0": (bench.sh("exit 0"), "exited 0"),
        "exit 37": (bench.sh("exit 37"), "exited 37"),
        "exit 137": (bench.sh("exit 137"), "exited 137"),
        "kill -9": (bench.sh("kill -9 $$"), "signalled 137"),
    }
    if bench.claims(Feature.ARGV):
        folder = bench.config.working_dir.rstrip("/")
        tries["a missing program"] = (session.run([f"/nowhere/{name}"]), "exited 127")
        tries["a plain file"] = (session.run([f"{folder}/{name}"]), "exited 126")
    bench.sh(f"rm -f {name}")
    wrong = [
        f"{what}: {_ending(got)}" for what, (got, want) in tries.items() if _ending(got) != want
    ]
    return held_if(not wrong, "; ".join(wrong) or f"{len(tries)} ways to end")


def _sizes(bench: Bench, names: list[str]) -> dict[str, int]:
    script = "".join(f'echo "{name} $(wc -c < {name} 2>/dev/null)"\n' for name in names)
    pairs = (line.split() for line in bench.sh(script).stdout.splitlines())
    return {pair[0]: int(pair[1]) if len(pair) > 1 else 0 for pair in pairs if pair}


def _alive(bench: Bench, names: list[str]) -> tuple[list[str], list[str]]:
    """(which ever gave a sign of life, which still do)."""
    before = _sizes(bench, names)
    time.sleep(0.6)
    after = _sizes(bench, names)
    ever = [name for name in names if after.get(name, 0)]
    return ever, [name for name in names if after.get(name, 0) > before.get(name, 0)]


def tree_kill(bench: Bench) -> Measured:
    """A deadline ends children, daemons, double forks and who ignores SIGTERM (D6)."""
    mark = f"stockade-{secrets.token_hex(6)}"
    ways = {
        "child": 'sh -c "$beat" {f} &',
        "daemon": 'if command -v setsid >/dev/null; then setsid sh -c "$beat" {f} & fi',
        "double-fork": '(sh -c "$beat" {f} & )',
        "deaf": "sh -c \"trap '' TERM HUP INT; $beat\" {f} &",
    }
    names = {way: f"{mark}-{way}" for way in ways}
    lines = [line.replace("{f}", names[way]) for way, line in ways.items()]
    result = bench.sh(_BEAT + "\n".join(lines) + "\nsleep 30", timeout=1.0)
    ever, still = _alive(bench, list(names.values()))
    bench.sh(f"rm -f {mark}-*")
    if result.verdict is not Verdict.TIMED_OUT:
        return Measured(Outcome.BROKEN, f"a deadline of 1 s gave {_ending(result)}")
    took = f"ended {result.duration_seconds:.1f} s after the start"
    if still:
        left = ", ".join(name[len(mark) + 1 :] for name in still)
        return Measured(Outcome.BROKEN, f"still running after the deadline: {left}")
    if not ever:
        return Measured(Outcome.UNKNOWN, f"{took}; the working folder showed no sign of life")
    late = result.duration_seconds > 2.0
    return held_if(not late, f"{took}; {len(ever)} kinds of children with it")


def returns(bench: Bench) -> Measured:
    """A program returns when it exits, though a child holds its output open (D7)."""
    result = bench.sh("sleep 4 & echo done", timeout=10)
    detail = f"returned after {result.duration_seconds:.1f} s"
    return held_if(result.success and result.duration_seconds < 3, detail)


def background(bench: Bench) -> Measured:
    """A child lives on in its session; without the claim it ends with its parent (D7)."""
    name = f"stockade-{secrets.token_hex(8)}"
    bench.sh(f'{_BEAT}sh -c "$beat" {name} >/dev/null 2>&1 &\nsleep 0.3')
    ever, still = _alive(bench, [name])
    bench.sh(f"rm -f {name}")
    if not ever:
        return Measured(Outcome.UNKNOWN, "the working folder showed no sign of life")
    claimed = bench.claims(Feature.BACKGROUND)
    detail = "lives on" if still else "ended with its execution"
    return held_if(bool(still) == claimed, f"a child {detail}")


PROBES = (
    Probe(name="exit codes", clause="D2", feature=None, run=exit_codes),
    Probe(name="deadline ends the tree", clause="D6", feature=None, run=tree_kill),
    Probe(name="returns on its exit", clause="D7", feature=None, run=returns),
    Probe(
        name="background children",
        clause="D7",
        feature=Feature.BACKGROUND,
        run=background,
        unclaimed=True,
    ),
)
