"""Mutants of A and B: plug-ins that are broken, and a core that is."""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from typing import Any

import attrs
import pytest

from conformance.mutants.base import (
    Mutant,
    install,
    string_suite,
    suite,
)
from conformance.mutants.selected import (
    ChangesTheConfiguration,
    HangingProbe,
    KeepsLimitsToItself,
    LogsTheEnvironment,
    NonsenseProbe,
    NoRemedy,
    RaisesItsOwn,
    RaisingProbe,
    StartsElsewhere,
    TellsTheEnvironment,
)
from stockade.config import Limits
from stockade.errors import ProviderNotFoundError
from stockade.selection._alternatives import Alternatives
from stockade.selection._discovery import installed
from stockade.selection._spec import Preference, ProviderString

_count = itertools.count(1)

_PLUGIN = """
from stockade.plugin import hookimpl
from stockade.testing.reference import ReferenceWall
from stockade.wall import Option

STOCKADE_API_VERSION = {version}
{more}

class MutantWall(ReferenceWall):
    pass
{wall}

@hookimpl
def {hook}():
    return MutantWall
"""

_HOLDS = """
    from stockade.capabilities import Capabilities, Feature, Isolation
    capabilities = Capabilities(dict.fromkeys(Feature, "native"))
    isolation, defaults = Isolation.PROCESS, {}
"""


def _plugin(
    check: str,
    name: str,
    *,
    wall: str = "",
    more: str = "",
    version: str = "1",
    hook: str = "stockade_wall",
    twice: bool = False,
    other: bool = False,
    patch: Any = None,
    target: str = ":some/Target",
    says: str = "",
    factor: float = 1.0,
) -> Mutant:
    """A mutant that is a distribution of its own, under a name of its own."""
    provider = f"mutant-{next(_count)}"
    source = _PLUGIN.format(version=version, more=more, wall=wall, hook=hook)

    def put(monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tempfile.mkdtemp(prefix="stockade-mutant-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        monkeypatch.setenv("TMPDIR", folder)  # what it leaves, it leaves there
        monkeypatch.setattr("tempfile.tempdir", folder)
        install(monkeypatch, folder, provider, source)
        if twice:
            install(monkeypatch, folder, f"{provider}-twin", source, value=provider)
        if other:
            install(
                monkeypatch,
                folder,
                "mutant-other",
                _PLUGIN.format(version="1", more="", wall="", hook="stockade_wall"),
            )
        if patch is not None:
            patch(monkeypatch)

    return Mutant(
        name=name,
        check=check,
        make=functools.partial(string_suite, f"{provider}{target}", factor=factor),
        patch=put,
        says=says,
    )


def _core(check: str, name: str, where: str, put: Any, *, says: str = "", **more: Any) -> Mutant:
    """Core broken in one place, seen through a wall that is not."""
    return Mutant(
        name=name,
        check=check,
        make=functools.partial(suite, **more),
        patch=lambda monkeypatch: monkeypatch.setattr(where, put),
        says=says,
    )


def _not_found(name: str) -> Any:
    raise ProviderNotFoundError(f"no provider {name}")


def _unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was passed over is forgotten."""
    monkeypatch.setattr("stockade.sessions._providers.WallProvider.passed_over", ())


def _shared_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first alternative's target and options are everybody's, as a list of names had it."""
    honest = Preference.parse.__func__  # type: ignore[attr-defined]

    def alike(cls: type[Preference], /, given: Any, **more: Any) -> Preference:
        found: Preference = honest(cls, given, **more)
        first = found.alternatives[0]
        specs = tuple(attrs.evolve(first, name=spec.name) for spec in found.alternatives)
        return attrs.evolve(found, alternatives=specs)

    monkeypatch.setattr(Preference, "parse", classmethod(alike))


def _something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing of the list can be used, one that nobody named is."""
    honest = Alternatives._expanded

    def more(self: Alternatives) -> Any:
        yield from honest(self)
        (name,) = [plugin.name for plugin in installed() if plugin.name.startswith("mutant-")]
        yield ProviderString(name), False

    monkeypatch.setattr(Alternatives, "_expanded", more)


def _takes_what_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is selected nor when it is opened."""
    monkeypatch.setattr("stockade.selection._alternatives.check_holds", _refuses_nothing)
    monkeypatch.setattr("stockade.sessions._providers.WallProvider.go_on", lambda *_: False)


def _every_wall_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [plugin.name for plugin in installed() if plugin.name.startswith("mutant-")]
    for where in (
        "stockade.selection._alternatives.embedded",
        "stockade.selection._discovery.embedded",
    ):
        monkeypatch.setattr(where, lambda: ([], names))


def _refuses_nothing(*_: object) -> None: ...


SELECTING = [
    _plugin(
        "A1_target_and_options_arrive",
        "loses-the-target",
        wall="""
    def __init__(self, target=None, options=None):
        super().__init__(None, options)
""",
    ),
    _plugin(
        "A2_a_value_that_does_not_convert_is_named",
        "convert-raises-KeyError",
        wall="""
    options = {"mode": Option(lambda text: {"a": 1}[text], None, "")}
""",
    ),
    _plugin(
        "A3_listing_imports_nothing_and_selecting_one_alone",
        "imports-another",
        other=True,
        more="import stockade_mutant_mutant_other",
    ),
    _plugin(
        "A4_an_unknown_name_lists_what_there_is",
        "lists-nothing",
        patch=lambda mp: mp.setattr("stockade.selection._discovery._only", _not_found),
    ),
    _plugin("A5_one_distribution_alone_claims_the_name", "claimed-twice", twice=True),
    _plugin("A6_the_plug_in_loads_and_is_listed_as_sound", "another-version", version="99"),
    _plugin("A6_the_plug_in_loads_and_is_listed_as_sound", "misspelled-hook", hook="stockade_wal"),
    _plugin(
        "A6_the_plug_in_loads_and_is_listed_as_sound",
        "fails-to-import",
        more="raise RuntimeError('no')",
    ),
    _plugin(
        "A7_an_order_of_preference_is_kept_and_reported",
        "passes-over-in-silence",
        patch=_unreported,
    ),
    _plugin("A7_each_alternative_is_whole", "shares-the-options", patch=_shared_options),
    _plugin(
        "A7_nothing_outside_of_the_list_is_used", "uses-another", wall=_HOLDS, patch=_something_else
    ),
    _plugin(
        "A7_the_next_is_taken_before_anything_ran",
        "gives-up-at-a-start-that-fails",
        patch=lambda mp: mp.setattr(
            "stockade.sessions._providers.WallProvider.go_on", lambda *_: False
        ),
    ),
    _plugin(
        "A7_the_next_is_taken_before_anything_ran",
        "takes-what-cannot-hold",
        patch=_takes_what_cannot_hold,
        says="UnsupportedError",
    ),
    _plugin(
        "A7_the_next_is_taken_before_anything_ran",
        "takes-what-is-away",
        patch=lambda mp: mp.setattr(
            "stockade.selection._probing.Probing.require", _refuses_nothing
        ),
    ),
    _plugin(
        "A7_local_stands_for_the_embedded_walls_alone",
        "every-wall-is-embedded",
        patch=_every_wall_is_embedded,
    ),
    _plugin(
        "A1_a_bar_inside_is_no_separator",
        "leaves-bars-as-they-are",
        patch=lambda mp: mp.setattr("stockade.selection._spec._TARGET_SAFE", ":/|"),
    ),
    _plugin(
        "A1_the_string_round_trips",
        "renders-no-target",
        patch=lambda mp: mp.setattr(
            "stockade.selection._spec.ProviderString.label", property(lambda spec: spec.name)
        ),
    ),
    Mutant(
        name="probe-raises",
        check="A8_the_probe_answers_in_time_and_never_raises",
        make=functools.partial(suite, wall=RaisingProbe),
    ),
    Mutant(
        name="probe-gives-nonsense",
        check="A8_the_probe_answers_in_time_and_never_raises",
        make=functools.partial(suite, wall=NonsenseProbe),
    ),
    Mutant(
        name="probe-hangs",
        check="A8_the_probe_answers_in_time_and_never_raises",
        make=functools.partial(suite, wall=HangingProbe, factor=0.02),
        says="TimeoutError",
    ),
    Mutant(
        name="no-remedy",
        check="A8_what_is_missing_comes_with_a_remedy",
        make=functools.partial(suite, wall=NoRemedy),
    ),
    Mutant(
        name="changes-the-configuration",
        check="B1_a_session_changes_no_configuration",
        make=functools.partial(suite, wall=ChangesTheConfiguration),
    ),
    _core(
        "B1_the_defaults_are_held_or_refused",
        "ignores-the-defaults",
        "stockade.sessions._runtime.refuse",
        _refuses_nothing,
    ),
    _core(
        "B2_wrong_values_are_refused_when_built",
        "checks-no-value",
        "attr._config._run_validators",
        False,
    ),
    _core(
        "B3_what_is_unsupported_is_refused_before_anything_starts",
        "refuses-nothing",
        "stockade.sessions._runtime.refuse",
        _refuses_nothing,
    ),
    Mutant(
        name="starts-elsewhere",
        check="B3_the_working_folder_is_where_it_was_asked",
        make=functools.partial(suite, StartsElsewhere),
    ),
    Mutant(
        name="environment-in-arguments",
        check="B4_environment_values_show_nowhere",
        make=functools.partial(suite, TellsTheEnvironment),
    ),
    Mutant(
        name="errors-of-a-local-class",
        check="B5_what_callers_hold_pickles_copies_and_compares",
        make=functools.partial(suite, RaisesItsOwn),
    ),
    _core(
        "B5_what_callers_hold_pickles_copies_and_compares",
        "errors-are-remade-of-their-words",
        "stockade.errors.StockadeError.__reduce__",
        Exception.__reduce__,
    ),
    _core(
        "B5_what_callers_hold_pickles_copies_and_compares",
        "handles-pickle-what-is-live",
        "stockade.results.SessionHandle.__reduce__",
        object.__reduce__,
    ),
    Mutant(
        name="keeps-limits-to-itself",
        check="B6_what_limits_a_session_is_reported",
        make=functools.partial(suite, wall=KeepsLimitsToItself),
    ),
    _core(
        "B6_what_limits_a_session_is_reported",
        "reports-no-limit",
        "stockade.session._session.limits_of",
        lambda *_: Limits(),
        memory="native",
    ),
    _plugin(
        "B6_a_bare_name_takes_what_is_fixed_elsewhere",
        "puts-the-default-in-its-place",
        wall=_HOLDS + "    fixed_elsewhere = ('memory_mb',)\n",
        patch=lambda mp: mp.setattr(
            "stockade.selection._candidates._fixed_elsewhere", lambda *_: ()
        ),
    ),
    _plugin(
        "B6_a_bare_name_takes_what_is_fixed_elsewhere",
        "drops-the-default",
        wall=_HOLDS,
        patch=lambda mp: mp.setattr(
            "stockade.selection._candidates._fixed_elsewhere", lambda *_: ("memory_mb",)
        ),
    ),
    _core(
        "B6_a_stated_limit_is_held_or_refused",
        "holds-nothing-and-refuses-nothing",
        "stockade.sessions._runtime.refuse",
        _refuses_nothing,
    ),
    Mutant(
        name="environment-in-the-log",
        check="B4_environment_values_show_nowhere",
        make=functools.partial(suite, LogsTheEnvironment),
    ),
]
