"""A report as one page for people: no scripts, nothing from elsewhere, light and dark.

python -m stockade.testing.report.page reports/*.json      # writes reports/*.html
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from stockade.testing.clauses import CLAUSES, GROUPS
from stockade.testing.report.data import STATES, CheckResult, ClauseState, Report

__all__ = ["main", "page"]

_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --line: #d9d9e0;
  --back: #fcfcfd; --card: #fff; --good: #18794e; --info: #0b68a8; --warn: #8f5a00; --bad: #c62a2f; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --soft: #a3a8b0; --line: #363a3f;
  --back: #111113; --card: #18191b; --good: #3dd68c; --info: #70b8ff; --warn: #ffca16;
  --bad: #ff8589; } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem }
p { margin: .25rem 0 } .soft { color: var(--soft) } code { font: .9em ui-monospace, monospace;
  overflow-wrap: anywhere }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1.25rem 0; padding: 0;
  list-style: none }
.counts li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .35rem .75rem } .counts b { font-size: 1.15rem; margin-right: .35rem }
table { border-collapse: collapse; width: 100% }
tr { border-top: 1px solid var(--line) }
th, td { padding: .55rem .75rem .55rem 0; text-align: left; vertical-align: top }
th { width: 3rem; font-variant-numeric: tabular-nums } td:last-child { padding-right: 0;
  text-align: right; white-space: nowrap; width: 7rem }
.note { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; margin-top: .15rem }
.held, .native, .emulated { color: var(--good) } .unsupported { color: var(--info) }
.not-checked, .deviating, .deviated, .skipped { color: var(--warn) }
.failing, .failed { color: var(--bad); font-weight: 600 }
details { font-size: .9rem } summary { cursor: pointer; color: var(--soft) }
details ul { margin: .25rem 0; padding-left: 1.1rem } pre { white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .15rem 0 .35rem; font: .85em/1.4 ui-monospace, monospace }
"""

_WORDS = {
    "held": "binds every wall, and holds",
    "native": "the kernel, engine or hypervisor does it",
    "emulated": "stockade or the wall does it on top",
    "unsupported": "not claimed, and refused where it is asked for",
    "not checked": "could not be run here",
    "deviating": "does not hold, as declared, with its reason",
    "failing": "does not hold",
}


def page(report: Report) -> str:
    """The whole HTML document."""
    states = report.states()
    groups = "".join(_group(report, letter, states) for letter in GROUPS)
    title = escape(f"{report.title}: conformance")
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n<main>\n{_head(report)}\n{_counts(states)}\n{groups}\n{_sections(report)}\n"
        f"{_legend()}\n</main>\n</html>\n"
    )


def _head(report: Report) -> str:
    wall, host = report.wall, report.host
    package = f"{wall['distribution']} {wall['version']}".strip() or "no distribution"
    return (
        f"<h1>{escape(report.title)}</h1>\n"
        f"<p>{escape(str(wall['summary']))} <span class=soft>(isolation: "
        f"{escape(str(wall['isolation']))})</span></p>\n"
        f"<p class=soft><code>{escape(report.provider)}</code></p>\n"
        f"<p class=soft>{escape(package)}, stockade {escape(report.stockade)}, held to "
        f"stockade's contract on {escape(report.started[:10])} in {report.seconds:.0f} s on "
        f"{escape(str(host['system']))} {escape(str(host['kernel']))} {escape(str(host['machine']))}"
        f", Python {escape(str(host['python']))}, {host['cpus']} cpus.</p>"
    )


def _counts(states: dict[str, ClauseState]) -> str:
    found = [state.state for state in states.values()]
    items = "".join(
        f'<li class="{_css(word)}"><b>{found.count(word)}</b>{word}</li>'
        for word in STATES
        if word in found
    )
    return f'<ul class="counts">{items}</ul>'


def _group(report: Report, letter: str, states: dict[str, ClauseState]) -> str:
    rows = "".join(
        _row(number, state, [check for check in report.checks if check.clause == number])
        for number, state in states.items()
        if number[0] == letter
    )
    title = f"<h2>{letter}. {escape(GROUPS[letter])}</h2>"
    return f"{title}\n<table>\n{rows}</table>\n" if rows else ""


def _row(number: str, state: ClauseState, checks: list[CheckResult]) -> str:
    note = " ".join(state.note.split())
    note_line = f'<div class="note">{escape(note)}</div>' if note else ""
    items = "".join(_check(check) for check in checks)
    count = f"{len(checks)} check{'s' if len(checks) > 1 else ''}"
    opened = " open" if state.state == "failing" else ""
    return (
        f"<tr><th>{number}</th><td>{escape(CLAUSES[number].title)}{note_line}"
        f"<details{opened}><summary>{count}</summary><ul>{items}</ul></details></td>"
        f'<td class="{_css(state.state)}">{state.state}</td></tr>\n'
    )


def _check(check: CheckResult) -> str:
    words = check.name.partition("_")[2].replace("_", " ")
    message = f"<pre>{escape(check.message)}</pre>" if check.message else ""
    return (
        f'<li>{escape(words)}: <span class="{_css(check.outcome)}">{check.outcome}</span> '
        f"<span class=soft>({check.seconds:.1f} s)</span>{message}</li>"
    )


def _sections(report: Report) -> str:
    """What plug-ins added."""
    return "".join(
        f"<h2>{escape(title)}</h2>\n<pre>{escape(json.dumps(data, indent=1, ensure_ascii=False))}"
        "</pre>\n"
        for title, data in report.sections.items()
    )


def _css(word: str) -> str:
    return word.replace(" ", "-")


def _legend() -> str:
    items = "".join(f"<li><b>{word}</b>: {text}</li>" for word, text in _WORDS.items())
    return f"<h2>What the words say</h2>\n<ul class=soft>{items}</ul>"


def main(paths: Sequence[str]) -> None:
    """Write a page beside each of these reports."""
    for path in map(Path, paths):
        report = Report.from_json(json.loads(path.read_text("utf-8")))
        path.with_suffix(".html").write_text(page(report), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
