"""The contract's clauses, as reports and tables name them, and the features that decide them."""

from __future__ import annotations

import attrs

from stockade.capabilities import Feature

__all__ = ["CLAUSES", "GROUPS", "Clause", "clause_of"]

_F = Feature

GROUPS = {
    "A": "Selecting a provider",
    "B": "Configuration",
    "C": "Sessions and the registry",
    "D": "Execution",
    "E": "Isolation, as seen from inside",
    "F": "Files",
    "G": "Snapshots, pausing",
}


@attrs.frozen
class Clause:
    """One clause: its number, what it is about, and the features that a wall claims for it.

    A clause without features binds every wall.
    """

    number: str
    title: str
    features: tuple[Feature, ...] = ()


_ALL = (
    Clause("A1", "the provider string round-trips"),
    Clause("A2", "wrong options are named"),
    Clause("A3", "listing imports nothing, selecting one plug-in alone"),
    Clause("A4", "an unknown name lists what there is"),
    Clause("A5", "a name claimed twice is refused"),
    Clause("A6", "a broken plug-in is reported, the others stay usable"),
    Clause("A7", "an order of preference is kept, and reported"),
    Clause("A8", "availability has a reason and a remedy, in bounded time"),
    Clause("B1", "the configuration is immutable, its defaults hold"),
    Clause("B2", "wrong values are refused when built"),
    Clause("B3", "what cannot be held is refused before anything starts"),
    Clause("B4", "environment values and secrets never show"),
    Clause("B5", "configurations, results, handles and errors pickle, copy and compare"),
    Clause("B6", "limits that are fixed elsewhere are reported, stated ones held or refused"),
    Clause("C1", "the agent's id never shows"),
    Clause("C2", "ids cannot be guessed"),
    Clause("C3", "a session answers to its own agent alone"),
    Clause("C4", "the state is the present one"),
    Clause("C5", "a failed creation leaves nothing"),
    Clause("C6", "an end leaves nothing; a failed one can be tried again"),
    Clause("C7", "ending a session ends its executions"),
    Clause("C8", "safe from any thread, nobody waits for another"),
    Clause("C9", "what a dead process left is found and removed"),
    Clause("C10", "another process attaches", (_F.DURABLE,)),
    Clause("C11", "a lifetime ends a session"),
    Clause("C12", "a session belongs to the process that opened it"),
    Clause("D1", "three forms, never confused", (_F.ARGV, _F.SHELL, _F.CODE)),
    Clause("D2", "exit codes and signals are exact"),
    Clause("D3", "one verdict, the right one"),
    Clause("D4", "streams are apart and byte-exact"),
    Clause("D5", "output is bounded and counted"),
    Clause("D6", "a timeout ends the whole tree"),
    Clause("D7", "a child left behind holds nothing up"),
    Clause("D8", "standard input is bytes or empty"),
    Clause("D9", "working folder and environment"),
    Clause("D10", "scripts of a mebibyte"),
    Clause("D11", "executions at the same time"),
    Clause("D12", "an execution can be cancelled"),
    Clause("D13", "output comes live"),
    Clause("D14", "a sandbox that dies is reported"),
    Clause("D15", "no deadline is none, a relative folder starts at the session's"),
    Clause("D16", "what outlives its execution speaks for no other"),
    Clause("D17", "standard input may stay open", (_F.LIVE_INPUT,)),
    Clause("D18", "running executions are listed, signalled and joined"),
    Clause("D19", "programs on a terminal", (_F.TERMINAL,)),
    Clause("D20", "a named interpreter keeps its state, and is else a fresh one", (_F.STATEFUL,)),
    Clause("E1", "no privilege", (_F.PROCESS_HARDENING,)),
    Clause(
        "E2",
        "read-only except bounded folders, and nothing of the host changed",
        (_F.READ_ONLY_ROOT, _F.DISK),
    ),
    Clause("E3", "no network, no socket, but a loopback", (_F.NETWORK_OFF,)),
    Clause("E4", "the process limit, threads included", (_F.PROCESSES,)),
    Clause("E5", "the memory limit", (_F.MEMORY,)),
    Clause("E6", "the cpu limit", (_F.CPU,)),
    Clause("E7", "nothing of the host shows"),
    Clause("E8", "sessions share nothing, no quota either"),
    Clause("E9", "mounts that would open the wall are refused", (_F.MOUNTS,)),
    Clause("E10", "egress to named hosts alone", (_F.ALLOW_LIST,)),
    Clause("E11", "secrets that requests carry and code never sees", (_F.SECRETS,)),
    Clause("E12", "isolation beside another execution, and after an attach"),
    Clause("F1", "what is written is read", (_F.FILES,)),
    Clause("F2", "errors of files are those of local files", (_F.FILES,)),
    Clause("F3", "planted links lead nowhere", (_F.FILES,)),
    Clause("F4", "listings and whole folders", (_F.FILES,)),
    Clause("F5", "what a file is; parts, moves and copies", (_F.FILES,)),
    Clause("F6", "changes below a folder are reported", (_F.WATCH,)),
    Clause("G1", "snapshots", (_F.SNAPSHOT,)),
    Clause("G2", "pausing", (_F.PAUSE,)),
)

#: Every clause by its number, in the contract's order.
CLAUSES: dict[str, Clause] = {clause.number: clause for clause in _ALL}


def clause_of(check: str) -> str:
    """The clause that a check belongs to, from its name: ``test_D6_...`` to ``D6``."""
    return check.removeprefix("test_").partition("_")[0]
