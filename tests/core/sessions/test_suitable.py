"""The names for the end of a message about a wall that cannot serve."""

from __future__ import annotations

import pytest

import stockade
from conftest import need


def test_walls_that_hold_what_is_asked() -> None:
    need("landlock")
    assert "landlock" in stockade.suitable_providers(needs=("argv", "files"))


def test_those_that_do_not_are_left_out() -> None:
    need("landlock")
    assert "landlock" not in stockade.suitable_providers(read_only_fs=False)
    assert "landlock" not in stockade.suitable_providers(durable=True)


def test_a_wall_that_isolates_nothing_is_no_advice() -> None:
    names = stockade.suitable_providers()
    isolating = {
        one.name for one in stockade.inspect_providers() if one.isolation not in (None, "none")
    }
    assert names and set(names) <= isolating


def test_a_wrong_field_is_no_matter_of_walls() -> None:
    with pytest.raises(stockade.ConfigError, match="memory_mb"):
        stockade.suitable_providers(memory_mb=-1)
