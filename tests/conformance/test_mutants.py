"""The suite is tested itself: every clause has a wall that is broken in it, and is caught there.

A mutant that survives is a failing test, and so is a clause without one. The base of the
mutants is the reference wall, which passes all that they fail (test_reference.py), but for
what only a real wall holds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from conformance.mutants.base import Mutant, suite
from conformance.mutants.executing import EXECUTING
from conformance.mutants.filing import FILING
from conformance.mutants.hostile import HOSTILE, Unharmed
from conformance.mutants.isolating import ISOLATING
from conformance.mutants.named import NAMED
from conformance.mutants.overlapping import OVERLAPPING
from conformance.mutants.running import RUNNING
from conformance.mutants.secret import SECRET
from conformance.mutants.selecting import SELECTING
from conformance.mutants.sessions import SESSIONS
from conformance.mutants.shown import SHOWN, shown_suite
from conformance.mutants.watching import WATCHING
from conftest import need
from stockade.testing.clauses import CLAUSES, clause_of
from stockade.testing.runner import checks_of

MUTANTS = [
    *SELECTING,
    *SESSIONS,
    *EXECUTING,
    *RUNNING,
    *HOSTILE,
    *ISOLATING,
    *SECRET,
    *FILING,
    *NAMED,
    *SHOWN,
    *WATCHING,
    *OVERLAPPING,
]


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=[f"{m.check if m.alone else m.clause}-{m.name}" for m in MUTANTS]
)
def test_the_mutant_is_caught_in_its_clause(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if mutant.needs:
        need(mutant.needs)
    # Some leave a session's folder behind, that being what is wrong with them.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    checked = mutant.make()
    with monkeypatch.context() as patch:
        mutant.patch(patch)
        try:
            with pytest.raises(pytest.fail.Exception) as caught:
                getattr(checked, f"test_{mutant.check}")()
        finally:
            patch.undo()
            checked.teardown_class()
    message = str(caught.value)
    assert message.startswith(f"{mutant.clause}\n"), message
    for word in ("expected:", "seen:", "look at:", mutant.says):
        assert word in message, message


#: What the wall behind the mutants of E12 passes alone; folders of the host it does not show.
HOLDS_ALONE = {mutant.alone: mutant for mutant in OVERLAPPING}
del HOLDS_ALONE["E9_a_mount_is_read_only_unless_asked_otherwise"]
del HOLDS_ALONE["E2_no_call_changes_a_file_of_the_host"]


@pytest.mark.parametrize("mutant", HOLDS_ALONE.values(), ids=HOLDS_ALONE)
def test_what_is_broken_in_a_circumstance_holds_alone(mutant: Mutant) -> None:
    """So it is the circumstance in which the mutants above are caught."""
    need(mutant.needs)
    checked = mutant.make()
    try:
        getattr(checked, f"test_{mutant.alone}")()
    finally:
        checked.teardown_class()


def test_every_check_that_is_run_again_has_a_mutant_there() -> None:
    again = {name.removeprefix("test_") for name in checks_of() if "_overlapping_" in name}
    assert again == {mutant.check for mutant in OVERLAPPING if "_overlapping_" in mutant.check}


@pytest.mark.parametrize("check", sorted({mutant.check for mutant in HOSTILE}))
def test_a_wall_that_no_program_harms_passes(check: str) -> None:
    """Of the mutants of attacks: it is the harm that is caught, and not that nothing ran."""
    checked = suite(Unharmed, processes="native")
    try:
        getattr(checked, f"test_{check}")()
    finally:
        checked.teardown_class()


def test_every_clause_has_checks_and_a_mutant() -> None:
    with_checks = {clause_of(check) for check in checks_of()}
    with_mutants = {mutant.clause for mutant in MUTANTS}
    assert with_checks == set(CLAUSES), "clauses without a check, or checks of no clause"
    assert with_mutants == set(CLAUSES), "clauses whose mutant is missing"


@pytest.mark.parametrize("check", sorted({mutant.check for mutant in (*NAMED, *SHOWN)}))
def test_the_base_with_named_interpreters_passes(check: str) -> None:
    checked = shown_suite()
    try:
        getattr(checked, f"test_{check}")()
    finally:
        checked.teardown_class()
