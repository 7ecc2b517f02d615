"""What a killed process leaves, found and removed by another (C9)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("stockade_hyperlight", reason="pip install stockade-hyperlight (tox -e vm)")


def test_C9_a_sessions_folder_is_found_with_its_owner(tmp_path: Path) -> None:
    from stockade_hyperlight import leftovers
    from stockade_hyperlight.wall import HyperlightWall

    made = leftovers.make("ses-1", "an owner", str(tmp_path))
    (tmp_path / "stockade-hyperlight-file").touch()
    (tmp_path / "stockade-hyperlight-link").symlink_to(made)
    (tmp_path / "another").mkdir()
    wall = HyperlightWall("python")
    wall._place = str(tmp_path)
    (found,) = wall.leftovers()
    assert (found.session_id, found.owner, found.handle) == ("ses-1", "an owner", made)
    wall.remove(found)
    wall.remove(found)
    assert not os.path.lexists(made) and wall.leftovers() == []


def test_a_folder_of_another_user_is_nobodys(tmp_path: Path) -> None:
    from stockade_hyperlight import leftovers

    if os.geteuid() != 0:
        pytest.skip("only root can make another user's folder")
    os.chown(leftovers.make("ses-1", "", str(tmp_path)), 65534, 65534)
    assert leftovers.all_of(str(tmp_path)) == []
