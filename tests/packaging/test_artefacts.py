"""The build of a release's artefacts, as far as it takes no time: what differs is found."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from stockade.system.installing import DISTRIBUTIONS

ROOT = Path(__file__).parents[2]


def loaded() -> Any:
    """By its path: the folder bears the name of a distribution that others import."""
    spec = importlib.util.spec_from_file_location(
        "artefacts", Path(__file__).with_name("artefacts.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_other_bytes_and_missing_files_are_found(tmp_path: Path) -> None:
    artefacts = loaded()
    for folder, text in (("one", "a"), ("two", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.whl").write_text("same")
        (tmp_path / folder / "other.tar.gz").write_text(text)
        (tmp_path / folder / "notes.txt").write_text(text)
    (tmp_path / "two" / "more.whl").write_text("more")
    one, two = (artefacts.sums(tmp_path / folder) for folder in ("one", "two"))
    assert artefacts.differing(one, two) == ["more.whl", "other.tar.gz"]
    assert artefacts.differing(one, one) == []


def test_every_distribution_is_built_and_has_its_needs_in_its_sbom() -> None:
    artefacts = loaded()
    assert len(list(artefacts.projects(ROOT))) == len(DISTRIBUTIONS)
    assert list(dict.fromkeys(artefacts.needed("stockade-gvisor"))) == [
        "stockade",
        "stockade-supervisor",
        "stockade-docker",
        "stockade-gvisor",
    ]


def test_the_maintainers_list_of_names_is_whole() -> None:
    page = (ROOT / "docs" / "releasing.md").read_text()
    reserve = page.partition("**Reserve the names.**")[2].partition("\n2. ")[0]
    assert [name for name in DISTRIBUTIONS if f"`{name}`" not in reserve] == []
