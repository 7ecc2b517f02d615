"""Finding and filling cgroups, on folders that look like them: of version 2, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.toolkit.local import cgroups

_Row = tuple[str, str, str, set[str]]
_Look = Callable[[list[_Row], dict[str, str]], dict[str, str]]


def group(folder: Path, *, controllers: str = "", on: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(on)
    return folder


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> _Look:
    def prepare(rows: list[_Row], own: dict[str, str]) -> dict[str, str]:
        monkeypatch.setattr(cgroups, "_mounts", lambda: iter(rows))
        return cgroups._second_version(own) or cgroups._first_version(own)

    return prepare


def test_version_2_takes_the_nearest_group_that_can_have_limits(
    tmp_path: Path, look: _Look
) -> None:
    """A user's service: its own group holds processes, the one above is delegated."""
    full = "cpu memory pids"
    group(tmp_path, controllers=full, on=full)
    above = group(tmp_path / "user.slice", controllers=full, on=full)
    group(above / "app.service", controllers=full)
    rows: list[_Row] = [("cgroup2", "/", str(tmp_path), {"rw"})]
    # A folder takes what is written, as a kernel would not with processes in the group;
    # so the own group is made one that offers nothing.
    (above / "app.service/cgroup.controllers").write_text("")
    found = look(rows, {"": "/user.slice/app.service"})
    assert found == dict.fromkeys(("memory", "pids", "cpu", "freezer"), str(above))


def test_version_2_without_memory_is_none(tmp_path: Path, look: _Look) -> None:
    """As in a hybrid set-up, where it is mounted with no controllers."""
    group(tmp_path)
    assert look([("cgroup2", "/", str(tmp_path), {"rw"})], {"": "/"}) == {}


def test_version_1_by_controller_and_under_a_container_s_root(tmp_path: Path, look: _Look) -> None:
    (tmp_path / "memory/inner").mkdir(parents=True)
    (tmp_path / "pids").mkdir()
    rows: list[_Row] = [
        ("cgroup", "/docker/abc", str(tmp_path / "memory"), {"rw", "memory"}),
        ("cgroup", "/elsewhere", str(tmp_path / "pids"), {"rw", "pids"}),
    ]
    own = {"memory": "/docker/abc/inner", "pids": "/docker/abc"}
    found = look(rows, own)
    assert found == {"memory": str(tmp_path / "memory/inner")}


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("")


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.read_text()}


def test_limits_of_version_2(tmp_path: Path) -> None:
    made = cgroups.Group(dict.fromkeys(("memory", "pids", "cpu"), str(tmp_path)), "stockade-ses-x")
    made.make()
    folder = tmp_path / "stockade-ses-x"
    fill(tmp_path, "cgroup.controllers")
    fill(folder, "memory.max", "memory.swap.max", "pids.max", "cpu.max")
    made.limit(1 << 20, 10, 0.5)
    assert texts(folder) == {
        "memory.max": "1048576",
        "memory.swap.max": "0",
        "pids.max": "10",
        "cpu.max": "50000 100000",
    }
    assert made.counter == str(folder / "memory.events")


def test_limits_of_version_1(tmp_path: Path) -> None:
    made = cgroups.Group(dict.fromkeys(("memory", "pids", "cpu"), str(tmp_path)), "stockade-ses-x")
    made.make()
    folder = tmp_path / "stockade-ses-x"
    fill(
        folder,
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "pids.max",
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
    )
    made.limit(1 << 20, None, 0.001)
    assert texts(folder) == {
        "memory.limit_in_bytes": "1048576",
        "memory.memsw.limit_in_bytes": "1048576",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "1000",
    }
    assert made.counter == str(folder / "memory.oom_control")
    (folder / "memory.memsw.limit_in_bytes").unlink()  # a kernel that does not count swap
    fill(folder, "memory.swappiness")
    made.limit(1 << 20, None, None)
    assert (folder / "memory.swappiness").read_text() == "0"


def test_no_process_of_another_namespace_is_killed(tmp_path: Path) -> None:
    """Such a one shows as 0, which would mean this process's whole group."""
    made = cgroups.Group({"memory": str(tmp_path)}, "stockade-ses-x")
    made.make()
    (tmp_path / "stockade-ses-x/cgroup.procs").write_text("0\n")
    assert made.processes() == []
