"""Servers that checks bring up: they end with the check, however that ends."""

from __future__ import annotations

import threading

import pytest

from stockade.testing.checks.e_egress import _server


def test_a_check_that_fails_leaves_no_thread_of_its_server() -> None:
    """A thread whose socket is closed under it is busy from then on, for all later checks."""
    before = set(threading.enumerate())
    with pytest.raises(AssertionError), _server():
        raise AssertionError
    assert not set(threading.enumerate()) - before
