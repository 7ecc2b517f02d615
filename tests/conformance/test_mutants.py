"""The suite is tested itself: every clause has a wall that is broken in it, and is caught there.

A mutant that survives is a failing test, and so is a clause without one. The base of the
mutants is the reference wall, which passes all that they fail (test_reference.py), but for
what only a real wall holds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from conformance.mutants.base import Mutant
from conformance.mutants.executing import EXECUTING
from conformance.mutants.isolating import ISOLATING
from conformance.mutants.selecting import SELECTING
from conformance.mutants.sessions import SESSIONS
from stockade.testing.contract import CLAUSES, clause_of
from stockade.testing.runner import checks_of

MUTANTS = [*SELECTING, *SESSIONS, *EXECUTING, *ISOLATING]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{m.clause}-{m.name}" for m in MUTANTS])
def test_the_mutant_is_caught_in_its_clause(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
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
    told = str(caught.value)
    assert told.startswith(f"{mutant.clause}\n"), told
    for word in ("expected:", "seen:", "look at:", mutant.says):
        assert word in told, told


def test_every_clause_has_checks_and_a_mutant() -> None:
    with_checks = {clause_of(check) for check in checks_of()}
    with_mutants = {mutant.clause for mutant in MUTANTS}
    assert with_checks == set(CLAUSES), "clauses without a check, or checks of no clause"
    assert with_mutants == set(CLAUSES), "clauses whose mutant is missing"
