"""A session for each test of this wall."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import stockade
from stockade import Session


@pytest.fixture
def session(landlock: str) -> Iterator[Session]:
    with stockade.open(landlock) as opened:
        yield opened
