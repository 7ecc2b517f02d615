"""Checks of A: selecting a provider. Those that core alone keeps look at this wall's string."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

import attrs
import pytest

import stockade
from stockade.capabilities import Capabilities, Feature, Isolation
from stockade.config import SandboxConfig
from stockade.errors import (
    ConfigError,
    ProviderNotFoundError,
    ProviderStringError,
    ProviderUnavailableError,
    SandboxStartError,
    StockadeError,
    UnsupportedError,
)
from stockade.selection._alternatives import LOCAL
from stockade.selection._discovery import PUBLISHED, InstalledPlugin, embedded, installed
from stockade.selection._spec import Preference, ProviderString
from stockade.sessions._providers import inspect_providers
from stockade.sessions._runtime import Runtime
from stockade.system.installing import install
from stockade.system.threads import bounded
from stockade.testing.base import ConformanceBase, anywhere, expect
from stockade.wall import Availability, Check, OpenRequest, Sandbox, Wall

#: Lists, then selects, and prints which entry points' modules were imported by each.
_IMPORTS = """
import json, sys
import stockade
found = {p.name: p.value.partition(":")[0] for p in stockade.installed_providers()}
early = sorted(name for name, module in found.items() if module in sys.modules)
try:
    stockade.provider(sys.stdin.read())
except stockade.StockadeError:
    pass
late = sorted(name for name, module in found.items() if module in sys.modules)
print(json.dumps([early, late]))
"""

#: A name that nothing registers.
_ABSENT = "stockade-conformance-absent"


class _Away(Wall):
    """Not available, as where an engine is down."""

    name, why, summary = "stockade-conformance-away", "switched off", "is not available"
    capabilities = Capabilities(dict.fromkeys(Feature, "native"))
    isolation = Isolation.PROCESS

    def probe(self) -> Availability:
        return Availability((Check("engine", False, "switched off", "switch it on"),))

    def open(self, request: OpenRequest) -> Sandbox:
        raise SandboxStartError("no such image", retryable=False)


class _Weak(_Away):
    """Available, and cannot hold anything."""

    name, why, summary = "stockade-conformance-weak", "cannot hold", "cannot hold what is asked"
    capabilities = Capabilities()

    def probe(self) -> Availability:
        return Availability()


class _Unstarted(_Away):
    """Available, holds everything by its own words, and starts no sandbox."""

    name, why, summary = "stockade-conformance-unstarted", "no such image", "does not start"

    def probe(self) -> Availability:
        return Availability()


def _runtime() -> Runtime:
    return Runtime(discover_plugins=False)


class Selection(ConformanceBase):
    """A: the provider string."""

    def _spec(self) -> ProviderString:
        if not self.provider:
            pytest.skip("the suite was given a provider object, not a string")
        wanted = Preference.parse(self.provider).alternatives
        if len(wanted) > 1 or wanted[0].name == LOCAL:
            pytest.skip("the string stands for several walls")
        return wanted[0]

    def _found(self) -> list[InstalledPlugin]:
        name = self._spec().name
        found = [plugin for plugin in installed() if plugin.name == name]
        if not found:
            if name in os.environ.get("STOCKADE_REQUIRE", "").split(","):
                pytest.fail(f"{name} is required here and not installed", False)
            pytest.skip(f"no installed distribution registers {name!r}")
        return found

    def _with(self, option: str) -> str:
        return f"{self.provider}{'&' if '?' in self.provider else '?'}{option}"

    @anywhere
    def test_A1_the_string_round_trips(self) -> None:
        spec = self._spec()
        expect(ProviderString.parse(str(spec)) == spec, "A1", "parse(str(x)) == x", str(spec))

    @anywhere
    def test_A1_a_bar_inside_is_no_separator(self) -> None:
        spec = self._spec()
        barred = attrs.evolve(spec, target="a|b", options={**spec.options, "labels": "x=1|2"})
        for given in (str(barred), f" {barred} "):
            read = Preference.parse(given).alternatives
            expect(read == (barred,), "A1", f"one alternative: {barred}", read)

    @anywhere
    def test_A1_target_and_options_arrive(self) -> None:
        spec = self._spec()
        self._found()
        wall = stockade.provider(self.provider).wall
        expect(
            wall.target == spec.target,
            "A1",
            f"the target {spec.target!r}",
            wall.target,
            "the wall's __init__: call super().__init__(target, options)",
        )
        changed = stockade.provider(self._with("labels=a%3Db%26c")).config.labels
        expect(dict(changed) == {"a": "b&c"}, "A1", "an option, decoded", changed)
        known = set(wall.options)
        expect(
            set(wall.chosen) >= known,
            "A1",
            f"every option's value: {known}",
            wall.chosen,
            "the wall's __init__: call super().__init__(target, options)",
        )

    @anywhere
    def test_A2_an_unknown_option_is_named(self) -> None:
        self._found()
        with pytest.raises(ProviderStringError, match=r"memry_mb.*memory_mb"):
            stockade.provider(self._with("memry_mb=1"))
        with pytest.raises(ProviderStringError, match=r"labels.* given twice"):
            stockade.provider(self._with("labels=a%3Db&labels=a%3Db"))

    @anywhere
    def test_A2_a_value_that_does_not_convert_is_named(self) -> None:
        self._found()
        own = stockade.provider(self.provider).wall.options
        for name in ("timeout_seconds", *own):
            if f"{name}=" in self.provider:
                continue
            try:
                stockade.provider(self._with(f"{name}=%01no%02such%03value"))
            except (ProviderStringError, ConfigError) as error:
                expect(name in str(error), "A2", f"an error that names {name!r}", error)
            except StockadeError:
                continue  # the wall itself looked at it, and refused it in the one tree
            except Exception as error:
                expect(
                    False,
                    "A2",
                    f"ProviderStringError that names {name!r}",
                    error,
                    f"the convert function of option {name!r}: raise ValueError",
                )

    @anywhere
    def test_A3_listing_imports_nothing_and_selecting_one_alone(self) -> None:
        found = self._found()
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTS],
            input=self.provider,
            capture_output=True,
            text=True,
            check=False,
            timeout=self.scaled(50),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        expect(done.returncode == 0, "A3", "a process that selects the wall", done.stderr[-600:])
        early, late = json.loads(done.stdout.splitlines()[-1])
        expect(not early, "A3", "no plug-in imported by listing", early)
        same = {p.name for p in installed() if p.value.partition(":")[0] == _module(found[0])}
        expect(
            set(late) <= same | set(self.over),
            "A3",
            "no other plug-in imported by selecting",
            late,
            f"what {_module(found[0])} imports",
        )

    @anywhere
    def test_A4_an_unknown_name_lists_what_there_is(self) -> None:
        name = self._found()[0].name
        with pytest.raises(ProviderNotFoundError) as caught:
            stockade.provider(f"{name}-x")
        expect(name in str(caught.value), "A4", f"the installed {name} listed", caught.value)
        absent = set(PUBLISHED) - {plugin.name for plugin in installed()}
        for published in sorted(absent)[:1]:
            with pytest.raises(
                ProviderNotFoundError, match=re.escape(install(PUBLISHED[published]))
            ):
                stockade.provider(published)

    @anywhere
    def test_A5_one_distribution_alone_claims_the_name(self) -> None:
        found = self._found()
        names = [f"{plugin.distribution} {plugin.version}" for plugin in found]
        expect(
            len(found) == 1,
            "A5",
            f"one distribution that claims {found[0].name!r}",
            names,
            "the entry points of both; uninstall one",
        )

    @anywhere
    def test_A6_the_plug_in_loads_and_is_listed_as_sound(self) -> None:
        name = self._found()[0].name
        try:
            Runtime(discover_plugins=False).walls.load(name)
        except StockadeError as error:
            expect(False, "A6", "a plug-in that loads", error, "its module and its hook")
        listed = inspect_providers([name], runtime=Runtime(discover_plugins=False))
        broken = [info.reason for info in listed if info.broken]
        expect(listed and not broken, "A6", "a listing that shows it as sound", broken)

    @anywhere
    def test_A7_an_order_of_preference_is_kept_and_reported(self) -> None:
        self._found()
        wanted = [_ABSENT, self.provider]
        for given in (wanted, " | ".join(wanted)):
            self._second_of(given)

    @anywhere
    def test_A7_each_alternative_is_whole(self) -> None:
        spec = self._spec()
        self._found()
        chosen = self._second_of(f"{_ABSENT}:other?labels=of=other | {self.provider}")
        if chosen is None:
            return
        expect(
            chosen.wall.target == spec.target,
            "A7",
            f"its own target {spec.target!r}",
            chosen.wall.target,
        )
        alone = stockade.provider(self.provider, runtime=chosen.runtime).config.labels
        expect(chosen.config.labels == alone, "A7", "its own options", chosen.config.labels)

    @anywhere
    def test_A7_nothing_outside_of_the_list_is_used(self) -> None:
        self._found()
        try:
            chosen = stockade.provider([_ABSENT, f"{_ABSENT}-too"], runtime=_runtime())
        except ProviderUnavailableError as error:
            for name in (_ABSENT, f"{_ABSENT}-too"):
                expect(f"[{name}]" in str(error), "A7", f"why {name} was passed over", error)
            return
        expect(False, "A7", "an error, since nothing of the list can be used", chosen.name)

    def test_A7_the_next_is_taken_before_anything_ran(self) -> None:
        spec = self._spec()
        self._found()
        for kind in (_Away, _Weak, _Unstarted):
            runtime = _runtime()
            runtime.walls.add(kind.name, kind)
            wanted = [kind.name, self.provider]
            with stockade.open(wanted, runtime=runtime, **self._unlike_the_defaults()) as session:
                taken, passed = session.provider.name, session.provider.passed_over
            expect(taken == spec.name, "A7", f"{spec.name} after one that {kind.summary}", taken)
            explained = [one.reason for one in passed if one.provider == kind.name]
            expect(
                len(explained) == 1 and kind.why in explained[0], "A7", f"why: {kind.why!r}", passed
            )

    @anywhere
    def test_A7_local_stands_for_the_embedded_walls_alone(self) -> None:
        name = self._found()[0].name
        own, others = embedded()
        runtime = _runtime()
        for other in (*own, *others):
            if other != name:
                runtime.walls.add(other, _Away)
        try:
            taken = stockade.provider("local", runtime=runtime, **self._unlike_the_defaults()).name
        except (ProviderUnavailableError, UnsupportedError) as error:
            expect(
                (f"[{name}]" in str(error)) == (name in (*own, *others)),
                "A7",
                f"{name} tried if it calls itself embedded, and only then",
                error,
            )
            return
        expect(taken == name and name in (*own, *others), "A7", "an embedded wall", taken)

    def _unlike_the_defaults(self) -> dict[str, Any]:
        """What differs from the defaults in the suite's sessions, and not by the string."""
        plain, config = SandboxConfig(), self.patient(self.make_provider().config)
        named = [field.name for field in attrs.fields(SandboxConfig)]
        return {
            name: getattr(config, name)
            for name in named
            if name not in self._spec().options and getattr(config, name) != getattr(plain, name)
        }

    def _second_of(
        self, given: str | list[str]
    ) -> stockade.sessions._providers.WallProvider | None:
        """The provider, which stands second; None if it is not available here."""
        spec = self._spec()
        try:
            chosen = stockade.provider(given, runtime=_runtime(), **self._unlike_the_defaults())
        except ProviderUnavailableError as error:
            for name in (_ABSENT, spec.label):
                expect(f"[{name}" in str(error), "A7", f"why {name} was passed over", error)
            return None
        expect(chosen.name == spec.name, "A7", f"{spec.name} chosen", chosen.name)
        passed = [one.provider.partition(":")[0] for one in chosen.passed_over if one.reason]
        expect(passed == [_ABSENT], "A7", f"{_ABSENT} passed over, with why", chosen.passed_over)
        return chosen

    @anywhere
    def test_A8_the_probe_answers_in_time_and_never_raises(self) -> None:
        provider = self._any_provider()
        began = time.monotonic()
        try:
            answer: object = bounded(provider.runtime.workers, provider.wall.probe, self.scaled(15))
        except Exception as error:
            expect(False, "A8", "an answer of the probe", error, "Wall.probe: catch and report")
        self.within("A8", 15, began, "a probe")
        right = isinstance(answer, Availability)
        expect(right, "A8", "an Availability", answer, "what Wall.probe returns")

    @anywhere
    def test_A8_what_is_missing_comes_with_a_remedy(self) -> None:
        answer = self._any_provider().availability()
        for check in answer.checks:
            explained = check.what and (check.ok or check.remedy)
            expect(
                explained,
                "A8",
                "what is missing, and what mends it",
                check,
                "Check(what, ok, detail, remedy) in Wall.probe",
            )

    def _any_provider(self) -> stockade.sessions._providers.WallProvider:
        if self.provider:
            self._found()
        return self.make_provider()


def _module(plugin: InstalledPlugin) -> str:
    return plugin.value.partition(":")[0]
