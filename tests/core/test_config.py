"""The configuration's defaults and checks (B1 to B4)."""

from __future__ import annotations

import math
import pathlib
import pickle
from typing import Any

import attrs
import pytest

from stockade import ConfigError, Mount, SandboxConfig


def test_B1_defaults_are_the_traits() -> None:
    config = SandboxConfig()
    assert (config.timeout_seconds, config.memory_mb, config.cpu_limit) == (60.0, 512, 1.0)
    assert (config.network_enabled, config.read_only_fs, dict(config.env_vars)) == (False, True, {})


def test_B3_safe_defaults() -> None:
    config = SandboxConfig()
    assert (config.user, config.working_dir, config.max_processes) == (None, "/workspace", 256)
    assert config.output_limit_bytes == 1024 * 1024
    assert config.mounts == () and not config.labels and config.lifetime_seconds


def test_B1_is_immutable_all_the_way() -> None:
    given = {"A": "1"}
    config = SandboxConfig(env_vars=given)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.memory_mb = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.env_vars["B"] = "2"  # type: ignore[index]
    given["C"] = "3"
    assert dict(config.env_vars) == {"A": "1"}


WRONG: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name in ("timeout_seconds", "cpu_limit", "lifetime_seconds", "idle_seconds")
        for value in (math.nan, math.inf, -math.inf, 0, -1, True, "1", 1e300)
    ),
    *(
        (name, value)
        for name in ("memory_mb", "max_processes", "disk_mb", "output_limit_bytes")
        for value in (math.nan, math.inf, 0, -1, True, 1.5, "1", 10**12)
    ),
    ("timeout_seconds", None),
    ("output_limit_bytes", None),
    *(("network_enabled", value) for value in (1, 0, None, "yes")),
    ("read_only_fs", 1),
    *(
        ("env_vars", value)
        for value in (
            {"": "x"},
            {"A=B": "x"},
            {"A\0": "x"},
            {"A": "x\0"},
            {"A": 1},
            {1: "x"},
            [("A", "b")],
        )
    ),
    *(("user", value) for value in ("root", "0", "0:0", "-1", "1:2:3", "", 1000, str(2**32))),
    *(
        ("working_dir", value)
        for value in ("", "relative", "/a/../b", "//a", "/a/", "/a\0", None, "/" + "x" * 2000)
    ),
    ("output_policy", "stop"),
    ("mounts", "no"),
    ("mounts", [("/a", "/b")]),
    ("mounts", [Mount("/a", "b")]),
    ("network_allow", "pypi.org"),
    ("network_allow", [""]),
    ("labels", {"": "x"}),
    ("labels", {"a": "\n"}),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_B2_wrong_values_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SandboxConfig(**{field: value})
    if value != "no":
        assert field in str(caught.value) or "sequence" in str(caught.value)


def test_B2_names_value_and_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"memory_mb=-5 .*1 to 4.*None for no limit"):
        SandboxConfig(memory_mb=-5)


def test_B4_values_of_variables_never_show() -> None:
    config = SandboxConfig(env_vars={"TOKEN": "hunter2"})
    assert "hunter2" not in repr(config) and "TOKEN" in repr(config)
    with pytest.raises(ConfigError) as caught:
        SandboxConfig(env_vars={"TOKEN": "hunter2\0"})
    assert "hunter2" not in str(caught.value)


def test_an_allow_list_contradicts_an_open_network() -> None:
    with pytest.raises(ConfigError, match="contradicts"):
        SandboxConfig(network_enabled=True, network_allow=("pypi.org",))


def test_a_mount_takes_a_path_object() -> None:
    mount = Mount(pathlib.Path("/srv/data"), "/data")
    assert mount == Mount("/srv/data", "/data")
    assert SandboxConfig(mounts=(mount,)).mounts[0].source == "/srv/data"


def test_with_names_the_nearest_field() -> None:
    assert SandboxConfig().with_(memory_mb=64).memory_mb == 64
    with pytest.raises(ConfigError, match="did you mean 'memory_mb'"):
        SandboxConfig().with_(memry_mb=64)  # type: ignore[call-arg]


def test_errors_pickle() -> None:
    # They cross process borders in pools and test runners.
    error = ConfigError("x")
    assert str(pickle.loads(pickle.dumps(error))) == "x"
