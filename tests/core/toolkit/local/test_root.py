"""What is planned of a sandbox's root, before anything starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stockade.errors import ConfigError
from stockade.toolkit.local.root import Root, check_place


def root(**more: Any) -> Root:
    usual: dict[str, Any] = {
        "target": None,
        "working_dir": "/workspace",
        "disk_mb": 8,
        "shm_mb": 8,
        "uid": 1000,
        "gid": 1000,
    }
    return Root(**{**usual, **more})


def steps(made: Root) -> dict[str, dict[str, Any]]:
    return {step["place"]: step for step in made.steps()}


def test_C7_accounts_of_a_target_stay_and_the_sandboxs_come_on_top(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/ash\nweb:x:33:33::/:/bin/false\n")
    (tmp_path / "etc/group").symlink_to("/etc/shadow")  # a link leads nowhere on the host
    found = steps(root(target=str(tmp_path)))
    names = [line.split(":")[0] for line in found["/etc/passwd"]["text"].splitlines()]
    assert names == ["root", "web", "sandbox", "nobody"]
    assert "ash" in found["/etc/passwd"]["text"]
    assert "sandbox:x:1000:" in found["/etc/group"]["text"]


def test_a_working_folder_inside_a_folder_of_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "opt/app/bin").mkdir(parents=True)
    (tmp_path / "opt/data").mkdir()
    found = steps(root(target=str(tmp_path), working_dir="/opt/app/work"))
    assert found["/opt"]["kind"] == found["/opt/app"]["kind"] == "folder"
    assert found["/opt/app/bin"]["kind"] == found["/opt/data"]["kind"] == "bind"


def test_a_working_folder_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "opt").symlink_to("/etc")
    with pytest.raises(ConfigError, match=r"'/opt/work' lies behind the link '/opt'"):
        root(target=str(tmp_path), working_dir="/opt/work").steps()


def test_sockets_and_devices_of_a_target_have_no_place(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "/pipe" not in steps(root(target=str(tmp_path)))


@pytest.mark.parametrize("place", ["/", "/tmp/w", "/dev/x", "/var/tmp", "/proc", "/etc", "/sys/x"])
def test_places_that_are_the_sandboxs_own(place: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder of its own"):
        check_place(place)
