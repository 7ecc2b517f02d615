"""What the benchmarks share: interleaved runs, medians, a table, JSON."""

from __future__ import annotations

import argparse
import html
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


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


def parser_of(rounds: int) -> argparse.ArgumentParser:
    """What every benchmark takes; ``rounds`` are its usual ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="write the medians to a file")
    return parser


def arguments(rounds: int) -> argparse.Namespace:
    return parser_of(rounds).parse_args()


def save_rows(path: Path | None, rows: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(rows, indent=2) + "\n")


def draw(path: Path, title: str, ratios: Mapping[str, float]) -> None:
    """A bar for each ratio, on a logarithmic scale; 1 is the baseline."""
    low = min(-1, math.floor(min(map(math.log10, ratios.values()))))
    left, width, step = 190, 420, 26

    def at(ratio: float) -> float:
        return left + width * min(1.1, (math.log10(ratio) - low) / -low)

    shapes = [f'<text x="10" y="22" font-weight="bold">{html.escape(title)}</text>']
    bottom = 50 + step * len(ratios)
    for power in range(low, 1):
        x = at(10.0**power)
        shapes.append(f'<line x1="{x}" y1="42" x2="{x}" y2="{bottom}" stroke="#bbb"/>')
        shapes.append(
            f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{10.0**power:g}</text>'
        )
    for number, (name, ratio) in enumerate(ratios.items()):
        y = 46 + step * number
        color = "#2a7" if ratio <= 1 else "#c63"
        shapes.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{left}" y="{y}" width="{max(1.0, at(ratio) - left)}" height="20" '
            f'fill="{color}"/><text x="{at(ratio) + 6}" y="{y + 15}">{ratio:.3f}</text>'
        )
    size = f'width="{left + width + 120}" height="{bottom + 30}"'
    style = 'font-family="sans-serif" font-size="13"'
    body = "\n".join(shapes)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n')


def save(path: Path | None, medians: Mapping[str, float]) -> None:
    if path is not None:
        path.write_text(json.dumps(dict(medians), indent=2) + "\n")
