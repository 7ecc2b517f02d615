"""Settings of a sandbox's own namespaces, on kernels that lack some of them (Debian 12)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.toolkit.local.calls import _Namespaces


def test_a_network_without_settings_of_its_core_gets_the_others(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/tcp_rmem").touch()
    into = object.__new__(_Namespaces)
    into._settings = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        into.write({"net/core/somaxconn": "256", "net/ipv4/tcp_rmem": "1 2 3"})
        assert (tmp_path / "net/ipv4/tcp_rmem").read_text() == "1 2 3"
        with pytest.raises(FileNotFoundError):
            into.write({"user/max_user_namespaces": "0"})
    finally:
        os.close(into._settings)
