"""What the benchmarks share: interleaved runs, medians, a table, JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def interleaved(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median milliseconds of each case; every round runs each once, so noise hits all."""
    for case in cases.values():
        case()
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            began = time.perf_counter()
            case()
            seen[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(times) for name, times in seen.items()}


def show(title: str, medians: Mapping[str, float], baseline: str) -> None:
    """A table with each median as a ratio to the baseline's."""
    print(title)
    for name, value in medians.items():
        print(f"  {name:<42} {value:8.2f} ms  {value / medians[baseline]:6.2f} x {baseline}")


def arguments(rounds: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="write the medians to a file")
    return parser.parse_args()


def save(path: Path | None, medians: Mapping[str, float]) -> None:
    if path is not None:
        path.write_text(json.dumps(dict(medians), indent=2) + "\n")
