"""Checks of isolation run once more beside another execution, and after an attach (E12)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from core.walls import ScriptedWall
from stockade.config import SandboxConfig
from stockade.session import Session
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.circumstances import CIRCUMSTANCES, alone_only
from stockade.testing.programs import say
from stockade.testing.runner import checks_of

seen: list[tuple[str, int, bool]] = []


class _Checks(ConformanceBase):
    """What a check finds, on the reference wall."""

    deviations: ClassVar[dict[str, str]] = {}

    def look(self, session: Session) -> None:
        assert self.run(session, say("x")).success
        executing = session.status.value == "executing"
        seen.append((self.circumstance.name, executing, session.provider.config.durable))

    def test_E7_in_a_session_of_its_own(self) -> None:
        with self.session() as session:
            self.look(session)

    def test_E7_in_a_shared_session(self) -> None:
        with self.shared() as session:
            self.look(session)

    @alone_only
    def test_E9_nothing_runs(self) -> None: ...

    def test_D1_of_another_group(self) -> None: ...

    def test_E8_holds_alone(self) -> None:
        expect(not self.circumstance.name, "E8", "no circumstance", self.circumstance.name)


def on_the_reference_wall(**members: Any) -> Any:
    made: Any = type("Checked", (_Checks,), {"provider": "reference-no-isolation", **members})
    return made


@pytest.mark.parametrize("check", ["in_a_session_of_its_own", "in_a_shared_session"])
def test_the_circumstance_is_there_while_the_check_runs(check: str) -> None:
    checked = on_the_reference_wall()
    seen.clear()
    try:
        for name in (f"E7_{check}", f"E12_overlapping_E7_{check}", f"E12_attached_E7_{check}"):
            getattr(checked(), f"test_{name}")()
    finally:
        checked.teardown_class()
    assert seen == [("", False, False), ("overlapping", True, False), ("attached", False, True)]


def test_what_is_run_again() -> None:
    names = {name for name in dir(on_the_reference_wall()) if name.startswith("test_E12")}
    assert names == {
        f"test_E12_{kind.name}_{check}"
        for kind in CIRCUMSTANCES
        for check in ("E7_in_a_session_of_its_own", "E7_in_a_shared_session", "E8_holds_alone")
    }


def again(name: str, kind: str) -> str:
    """What a check is called in a circumstance."""
    plain = name.removeprefix("test_")
    if plain.startswith("B4_"):
        return f"test_B4_{kind}_{plain.removeprefix('B4_')}"
    return f"test_E12_{kind}_{plain}"


def test_all_of_e_and_b4_is_run_again() -> None:
    every = set(checks_of())
    kinds = [kind.name for kind in CIRCUMSTANCES]
    repeated = {name for name in every if any(f"_{kind}_" in name for kind in kinds)}
    plain = {name for name in checks_of(("E", "B4")) if name not in repeated}
    expected = {again(name, kind) for name in plain for kind in kinds}
    refusals = (
        "test_E9_dangerous_mounts_are_refused",
        "test_E9_a_folder_of_another_user_is_refused",
        "test_E9_a_folder_with_a_service_is_refused",
    )
    nothing_runs = {again(name, kind) for name in refusals for kind in kinds}
    assert expected - repeated == nothing_runs
    assert repeated <= expected


def test_a_failure_says_in_which_circumstance() -> None:
    checked = on_the_reference_wall()
    with pytest.raises(pytest.fail.Exception) as caught:
        checked().test_E12_overlapping_E8_holds_alone()
    words = str(caught.value)
    assert words.startswith("E12\n") and "E8 in an execution that overlaps another" in words
    assert "expected: no circumstance" in words and "look at:" in words


def test_a_deviation_of_the_check_is_one_in_every_circumstance() -> None:
    deviates = on_the_reference_wall(deviations={"E8_holds_alone": "so it is"})
    with pytest.raises(pytest.xfail.Exception, match="so it is"):
        deviates().test_E12_attached_E8_holds_alone()
    holds = on_the_reference_wall(deviations={"E7_in_a_session_of_its_own": "alone"})
    holds().test_E12_overlapping_E7_in_a_session_of_its_own()  # it need not
    itself = on_the_reference_wall(
        deviations={"E12_overlapping_E7_in_a_session_of_its_own": "once"}
    )
    with pytest.raises(pytest.fail.Exception, match="deviates no more"):
        itself().test_E12_overlapping_E7_in_a_session_of_its_own()


def test_a_wall_that_is_not_durable_is_attached_to_nowhere() -> None:
    class Bound(ScriptedWall):
        capabilities = ScriptedWall.capabilities.with_(durable="unsupported")

    class Checked(_Checks):
        def make_provider(self, **config: Any) -> WallProvider:
            settings = SandboxConfig(**config)
            runtime = Runtime(discover_plugins=False)
            return WallProvider("scripted", Bound(), settings, runtime)

    check: Any = Checked()
    with pytest.raises(pytest.skip.Exception, match="durable"):
        check.test_E12_attached_E7_in_a_shared_session()
