"""What an adapter says of a framework that its tests did not run with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from stockade.system.versions import untested


def judged(installed: str, first: str = "1.2.3", last: str = "1.4.0") -> str | None:
    return untested("stockade-x", "frame", first, last, installed)


def test_versions_between_the_two_are_tested() -> None:
    for installed in ("1.2.3", "1.2.10", "1.3", "1.4.0", "1.4.0.post1"):
        assert judged(installed) is None, installed


@pytest.mark.parametrize("installed", ["1.2.2", "1.4.1", "1.10.0", "2.0", "0.9"])
def test_others_are_named_with_those_that_are(installed: str) -> None:
    said = judged(installed)
    assert said is not None
    assert f"stockade-x is tested with frame 1.2.3 to 1.4.0, and {installed} is installed" in said


def test_one_tested_version_is_named_once() -> None:
    said = judged("2.0", "1.0", "1.0")
    assert said is not None and "frame 1.0, and 2.0" in said


def test_the_installed_one_is_judged_by_default() -> None:
    here = version("pluggy")
    assert untested("stockade-x", "pluggy", here, here) is None
    assert here in str(untested("stockade-x", "pluggy", "0.0.1", "0.0.2"))
    with pytest.raises(PackageNotFoundError):
        untested("stockade-x", "no-such-framework", "1", "2")
