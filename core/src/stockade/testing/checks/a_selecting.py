"""Checks of A: selecting a provider. Those that core alone keeps look at this wall's string."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

import stockade
from stockade.errors import (
    ConfigError,
    ProviderNotFoundError,
    ProviderStringError,
    ProviderUnavailableError,
    StockadeError,
)
from stockade.selection._discovery import PUBLISHED, InstalledPlugin, installed
from stockade.selection._providers import inspect_providers
from stockade.selection._spec import ProviderString
from stockade.sessions._runtime import Runtime
from stockade.system.threads import bounded
from stockade.testing.base import ConformanceBase, anywhere, expect
from stockade.wall import Availability

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


class Selection(ConformanceBase):
    """A: the provider string."""

    def _spec(self) -> ProviderString:
        if not self.provider:
            pytest.skip("the suite was given a provider object, not a string")
        return ProviderString.parse(self.provider)

    def _found(self) -> list[InstalledPlugin]:
        name = self._spec().names[0]
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
    def test_A1_target_and_options_arrive(self) -> None:
        spec = self._spec()
        self._found()
        wall = stockade.provider(self.provider).wall
        expect(wall.target == spec.target, "A1", f"the target {spec.target!r}", wall.target,
               "the wall's __init__: call super().__init__(target, options)")  # fmt: skip
        changed = stockade.provider(self._with("labels=a%3Db%26c")).config.labels
        expect(dict(changed) == {"a": "b&c"}, "A1", "an option, decoded", changed)
        known = set(wall.options)
        expect(set(wall.chosen) >= known, "A1", f"every option's value: {known}", wall.chosen,
               "the wall's __init__: call super().__init__(target, options)")  # fmt: skip

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
                expect(False, "A2", f"ProviderStringError that names {name!r}", error,
                       f"the convert function of option {name!r}: raise ValueError")  # fmt: skip

    @anywhere
    def test_A3_listing_imports_nothing_and_selecting_one_alone(self) -> None:
        found = self._found()
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTS],
            input=self.provider, capture_output=True, text=True, check=False,
            timeout=self.scaled(50),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )  # fmt: skip
        expect(done.returncode == 0, "A3", "a process that selects the wall", done.stderr[-600:])
        early, late = json.loads(done.stdout.splitlines()[-1])
        expect(not early, "A3", "no plug-in imported by listing", early)
        same = {p.name for p in installed() if p.value.partition(":")[0] == _module(found[0])}
        expect(set(late) <= same, "A3", "no other plug-in imported by selecting", late,
               f"what {_module(found[0])} imports")  # fmt: skip

    @anywhere
    def test_A4_an_unknown_name_lists_what_there_is(self) -> None:
        name = self._found()[0].name
        with pytest.raises(ProviderNotFoundError) as caught:
            stockade.provider(f"{name}-x")
        expect(name in str(caught.value), "A4", f"the installed {name} listed", caught.value)
        absent = set(PUBLISHED) - {plugin.name for plugin in installed()}
        for published in sorted(absent)[:1]:
            with pytest.raises(ProviderNotFoundError, match=f"pip install {PUBLISHED[published]}"):
                stockade.provider(published)

    @anywhere
    def test_A5_one_distribution_alone_claims_the_name(self) -> None:
        found = self._found()
        names = [f"{plugin.distribution} {plugin.version}" for plugin in found]
        expect(len(found) == 1, "A5", f"one distribution that claims {found[0].name!r}", names,
               "the entry points of both; uninstall one")  # fmt: skip

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
    def test_A7_an_order_of_preference_is_kept_and_told(self) -> None:
        spec = self._spec()
        self._found()
        if len(spec.names) > 1:
            pytest.skip("the string is an order of preference itself")
        absent = "stockade-conformance-absent"
        string = f"{absent},{self.provider}"
        runtime = Runtime(discover_plugins=False)
        try:
            chosen = stockade.provider(string, runtime=runtime)
        except ProviderUnavailableError as error:
            for name in (absent, spec.names[0]):
                expect(f"[{name}]" in str(error), "A7", f"why {name} was passed over", error)
            return
        expect(chosen.name == spec.names[0], "A7", f"{spec.names[0]} chosen", chosen.name)
        passed = [name for name, why in chosen.passed_over if why]
        expect(passed == [absent], "A7", f"{absent} passed over, with why", chosen.passed_over)

    @anywhere
    def test_A8_the_probe_answers_in_time_and_never_raises(self) -> None:
        provider = self._any_provider()
        began = time.monotonic()
        try:
            answer: object = bounded(provider.runtime.workers, provider.wall.probe, self.scaled(15))
        except Exception as error:
            expect(False, "A8", "an answer of the probe", error, "Wall.probe: catch and tell")
        self.within("A8", 15, began, "a probe")
        right = isinstance(answer, Availability)
        expect(right, "A8", "an Availability", answer, "what Wall.probe returns")

    @anywhere
    def test_A8_what_is_missing_comes_with_a_remedy(self) -> None:
        answer = self._any_provider().availability()
        for check in answer.checks:
            told = check.what and (check.ok or check.remedy)
            expect(told, "A8", "what is missing, and what mends it", check,
                   "Check(what, ok, detail, remedy) in Wall.probe")  # fmt: skip

    def _any_provider(self) -> stockade.selection._providers.WallProvider:
        if self.provider:
            self._found()
        return self.make_provider()


def _module(plugin: InstalledPlugin) -> str:
    return plugin.value.partition(":")[0]
