"""What ``local`` stands for (A7)."""

from __future__ import annotations

import logging

import pytest

import stockade
from core.selection.walls import (
    Away,
    Good,
)
from stockade.capabilities import Capabilities, Isolation
from stockade.errors import (
    ProviderStringError,
    ProviderUnavailableError,
    UnsupportedError,
)
from stockade.selection._alternatives import each
from stockade.selection._spec import Preference
from stockade.sessions._runtime import Runtime


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (["away", "small", "good"], ["vm", "none", "broken", "plain"])
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: names)


@pytest.mark.usefixtures("embedded")
def test_local_is_the_strongest_that_holds_what_is_asked(
    ours: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stockade"):
        provider = stockade.provider("local?cpu_limit=2", runtime=ours)
    assert provider.name == "good" and provider.config.cpu_limit == 2.0
    assert [(one.provider, one.embedded) for one in provider.passed_over] == [
        ("away", True),
        ("small", True),
    ]
    assert not caplog.records  # nobody named them
    assert stockade.provider("local?memory_mb=none", runtime=ours).name == "small"


@pytest.mark.usefixtures("embedded")
def test_local_tries_others_after_its_own_by_their_isolation(ours: Runtime) -> None:
    """One that isolates nothing cannot hold the defaults, which stand in any list."""
    ours.walls.add("good", Away)
    ours.walls.add("vm", type("Vm", (Away,), {"isolation": Isolation.VM}))
    ours.walls.add("plain", type("Plain", (Away,), {"isolation": Isolation.PROCESS}))
    nothing = {
        "isolation": Isolation.NONE,
        "capabilities": Capabilities(),
        "defaults": {"memory_mb": None},
    }
    ours.walls.add("none", type("Nothing", (Good,), nothing))
    with pytest.raises(ProviderUnavailableError) as caught:
        stockade.open("local", runtime=ours)
    order = [part.split("]")[0] for part in str(caught.value).split("[")[1:]]
    assert order[:3] == ["away", "small", "good"]
    assert order.index("vm") < order.index("plain") < order.index("none")
    assert "broken" in order


def test_local_is_never_a_wall_that_isolates_nothing(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it holds what is asked, by its own words."""
    ours.walls.add("none", type("Nothing", (Good,), {"isolation": Isolation.NONE}))
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: ([], ["none"]))
    with pytest.raises(UnsupportedError, match=r"\[none\] none isolates nothing"):
        stockade.open("local", runtime=ours)
    assert stockade.provider("local | none", runtime=ours).name == "none"  # it was named


@pytest.mark.usefixtures("embedded")
def test_local_in_a_list_tries_each_once(ours: Runtime) -> None:
    ours.walls.add("good", Away)
    with pytest.raises(ProviderUnavailableError) as caught:
        stockade.open("good | local", runtime=ours)
    assert str(caught.value).count("[good]") == 1
    assert stockade.provider("local | other", runtime=ours, memory_mb=1).name == "other"


def test_local_without_an_embedded_wall_says_what_to_install(
    ours: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.selection._discovery.embedded", lambda: ([], []))
    with pytest.raises(
        ProviderUnavailableError, match=r"pip install \./supervisor \./plugins/bubblewrap"
    ):
        stockade.open("local", runtime=ours)
    assert stockade.provider("local | good", runtime=ours).name == "good"


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("local:/root", "takes no target.*bubblewrap:/root"),
        ("local?depth=1", "no option 'depth'"),
        ("local?memry_mb=1", "did you mean 'memory_mb'"),
    ],
)
def test_local_takes_what_every_wall_takes(ours: Runtime, text: str, says: str) -> None:
    with pytest.raises(ProviderStringError, match=says):
        stockade.open(text, runtime=ours)


def test_what_looks_at_all_of_them_sees_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (["away", "small", "good"], ["vm", "none", "broken", "plain"])
    monkeypatch.setattr("stockade.selection._alternatives.embedded", lambda: names)
    found = each(Preference.parse("good | local | other:x"))
    assert [spec.label for spec in found] == [
        "good",
        "away",
        "small",
        "vm",
        "none",
        "broken",
        "plain",
        "other:x",
    ]
