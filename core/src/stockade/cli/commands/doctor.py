"""``stockade doctor``: what is missing and what mends it; with --probe, claims measured."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import attrs
import click

from stockade.cli.choosing import WallCommand, passed_over, provider_option, wanted
from stockade.cli.console import (
    clear_status,
    failed,
    say,
    say_parts,
    status,
    table,
    traceback_option,
    traced,
)
from stockade.errors import StockadeError
from stockade.system.installing import install

if TYPE_CHECKING:
    from stockade.selection._spec import Preference
    from stockade.wall import Check

__all__ = ["doctor"]


@click.command(cls=WallCommand)
@provider_option
@click.option("--probe", is_flag=True, help="Start a sandbox and measure what the wall claims.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@traceback_option
def doctor(provider: tuple[str, ...], probe: bool, as_json: bool) -> None:
    """Say what each wall needs, what is missing, and what mends it.

    It looks at the installed walls and plug-ins, or at the walls that -p names. Then it says
    which wall would be taken, and why no other. With --probe it starts a sandbox behind each,
    and shows what the wall claims beside what was measured from inside. The exit code is 1 if
    none of the named walls can be taken, if a claim does not hold, or if a plug-in is broken or
    lacks something.
    """
    preference, selection = _selected(provider)
    names = _each(preference) if provider else _installed()
    walls = [_look(string, probe) for string in names]
    plugins = [] if provider else _plugin_checks()
    reports = [*walls, *plugins]
    if as_json:
        say(json.dumps({"walls": walls, "plugins": plugins, "selection": selection}, indent=2))
    else:
        for report in reports:
            _print(report)
        if not names:
            say(f"No provider is installed; try: {install('stockade-bubblewrap')}")
        _print_selection(selection)
    bad = any(_bad(report) for report in reports)
    sys.exit(1 if bad or (provider and selection["error"]) else 0)


def _installed() -> list[str]:
    from stockade.sessions._providers import installed_providers

    return list(dict.fromkeys(found.name for found in installed_providers()))


def _each(preference: Preference | None) -> list[str]:
    from stockade.selection._alternatives import each

    return [] if preference is None else [str(spec) for spec in each(preference)]


def _selected(given: tuple[str, ...]) -> tuple[Preference | None, dict[str, Any]]:
    """What would be taken, and why no other."""
    from stockade.sessions._providers import provider

    selection: dict[str, Any] = {
        "wanted": None,
        "source": None,
        "taken": None,
        "passed_over": [],
        "error": None,
    }
    preference: Preference | None = None
    try:
        preference = wanted(given)
        selection["wanted"], selection["source"] = preference.label, preference.source
        chosen = provider(preference, check_available=True)
    except StockadeError as error:
        if traced() and preference is None:  # else the wall's own report shows it
            failed(error)
        selection["error"] = str(error)
        return preference, selection
    selection["taken"] = chosen.name if chosen.spec is None else chosen.spec.label
    selection["passed_over"] = passed_over(chosen)
    return preference, selection


def _print_selection(selection: dict[str, Any]) -> None:
    why = (
        f"; {selection['wanted']!r} is wanted by {selection['source']}"
        if selection["wanted"]
        else ""
    )
    say(f"{selection['taken'] or 'nothing'} would be taken{why}", bold=True)
    if selection["error"]:
        say(f"  {selection['error']}")
    for one in selection["passed_over"]:
        say(f"  passed over {one['name']}: {one['reason']}")


def _bad(report: dict[str, Any]) -> bool:
    if report["provider"] is None and not report["available"]:
        return True
    return any(row["broken"] for row in report["measured"]) or "error" in report["probe"]


def _plugin_checks() -> list[dict[str, Any]]:
    """What plug-ins looked at, in the shape of a wall's report; nothing where there are none."""
    from stockade.policies._hooks import default_hooks
    from stockade.wall import Availability

    hooks = default_hooks()
    checks = (*_broken_plugins(), *hooks.doctor_checks())
    if not checks:
        return []
    answer = Availability(checks)
    return [
        {
            "provider": None,
            "available": bool(answer),
            "reason": answer.reason,
            "checks": [attrs.asdict(check) for check in checks],
            "measured": [],
            "probe": {},
        }
    ]


def _broken_plugins() -> list[Check]:
    """Whether each installed plug-in that is no wall can be used."""
    from stockade.plugin import PLUGIN_GROUP
    from stockade.policies._listing import inspect_plugins
    from stockade.wall import Check

    return [
        Check(
            f"plug-in {info.name}",
            not info.broken,
            info.reason or f"{info.distribution} {info.version}",
            f"STOCKADE_DISABLED_PLUGINS={info.name} goes on without it" if info.broken else "",
        )
        for info in inspect_plugins()
        if info.group == PLUGIN_GROUP
    ]


def _look(string: str, probe: bool) -> dict[str, Any]:
    from stockade.sessions._providers import provider
    from stockade.values.options import render

    report: dict[str, Any] = {
        "provider": string,
        "available": False,
        "reason": "",
        "checks": [],
        "measured": [],
        "probe": {},
    }
    try:
        chosen = provider(string)
    except StockadeError as error:
        if traced():
            failed(error)
        report["reason"] = str(error)
        return report
    answer = chosen.availability()
    report["isolation"], report["summary"] = str(chosen.wall.isolation), chosen.wall.summary
    report["lowered"] = {name: render(value) for name, value in chosen.lowered.items()}
    report["available"], report["reason"] = bool(answer), answer.reason
    report["checks"] = [attrs.asdict(check) for check in answer.checks]
    report["capabilities"] = {
        str(feature): {"level": str(support.level), "note": support.note}
        for feature, support in chosen.wall.capabilities.items()
    }
    if probe and answer:
        try:
            report["measured"] = _measure(chosen)
        except StockadeError as error:
            report["probe"] = {"error": str(error)}
    return report


def _measure(chosen: Any) -> list[dict[str, Any]]:
    from stockade.testing.probes import measure

    def progress(probe: Any) -> None:
        if sys.stderr.isatty():
            status(f"measuring {probe.name} …")

    rows = [
        {
            "name": found.name,
            "clause": found.clause,
            "claimed": None if found.claimed is None else str(found.claimed),
            "measured": str(found.outcome),
            "detail": found.detail,
            "broken": found.broken,
        }
        for found in measure(chosen, on_start=progress)
    ]
    if sys.stderr.isatty():
        clear_status()
    return rows


def _print(report: dict[str, Any]) -> None:
    state = "available" if report["available"] else "not available"
    if report["provider"] is None:
        state = "all well" if report["available"] else "something is missing"
    say(f"{report['provider'] or 'plug-ins'}: {state}", bold=True)
    if report.get("summary"):
        say(f"  {report['summary']} (isolation: {report['isolation']})")
    if report.get("lowered"):
        lowered = ", ".join(f"{name}={text}" for name, text in report["lowered"].items())
        say(f"  its defaults are {lowered}; what you set is held or refused")
    for check in report["checks"]:
        mark, colour = ("ok     ", "green") if check["ok"] else ("missing", "red")
        say_parts(("  ", {}), (mark, {"fg": colour}), (f"  {check['what']}: {check['detail']}", {}))
        if check["remedy"]:
            say(f"           {'better' if check['ok'] else 'mend it'}: {check['remedy']}")
    if not report["checks"] and report["reason"]:
        say(f"  {report['reason']}")
    if "error" in report["probe"]:
        say(f"  the probe failed: {report['probe']['error']}")
    if report["measured"]:
        say()
        rows = [
            (
                row["clause"],
                row["name"],
                row["claimed"] or "asked of all",
                row["measured"],
                row["detail"],
            )
            for row in report["measured"]
        ]
        table(("clause", "what", "claimed", "measured", "detail"), rows)
    say()
