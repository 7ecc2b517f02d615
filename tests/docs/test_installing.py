"""What pages say of installing can be done today: nothing here is on the index before a release."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stockade.system.installing import DISTRIBUTIONS, RELEASED

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_NAMES = "|".join(sorted(DISTRIBUTIONS, key=len, reverse=True))
_FROM_INDEX = re.compile(rf"pip install [^`\n]*(?<![\w./-])(?:{_NAMES})\b(?!/)")
#: They say what stands there after a release, or what must stand there before one.
_LATER = ("releasing.md", "reports", "adr")


@pytest.mark.skipif(RELEASED, reason="the names are on the index")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_installs_from_the_checkout(page: Path) -> None:
    if set(_LATER) & {page.name, page.parent.name}:
        pytest.skip("it is about releases, or about the past")
    assert _FROM_INDEX.findall(page.read_text()) == []


def test_a_name_of_the_index_is_found() -> None:
    assert _FROM_INDEX.search("pip install 'stockade[cli]' stockade-docker")
    assert _FROM_INDEX.search("pip install -q stockade-server==1")
    assert not _FROM_INDEX.search('pip install "./core[cli]" ./plugins/stockade')
