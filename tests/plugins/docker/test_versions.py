"""What ``doctor`` says of versions: those with known ways out are named (A8)."""

from __future__ import annotations

import attrs
import docker
import pytest
from click.testing import CliRunner

from conftest import need
from stockade.cli.app import app
from stockade_docker.engine import EngineInfo
from stockade_docker.versions import engine_check, runsc_check, runtime_check

INFO = EngineInfo("27.1", "6.1.9", "Linux", ("runc",), (), "2", is_podman=False)


def _runc(version: str, name: str = "runc") -> str:
    (check,) = runtime_check(attrs.evolve(INFO, components={"Engine": "27.1", name: version}))
    assert check.ok and bool(check.remedy) == ("known ways out" in check.detail)
    return check.detail


@pytest.mark.parametrize(
    ("version", "known", "closed"),
    [
        ("1.1.11", "CVE-2024-21626", "CVE-2019-5736"),
        ("1.1.5+ds1", "CVE-2024-21626", "CVE-2019-5736"),
        ("1.1.12", "CVE-2025-31133", "CVE-2024-21626"),
        ("1.2.7", "CVE-2025-31133", "CVE-2024-21626"),
        ("1.3.2", "CVE-2025-52881", "CVE-2024-21626"),
        ("1.2.8", "", "CVE-2025"),
        ("1.3.3", "", "CVE-2025"),
        ("1.4.1", "", "CVE-2025"),
        ("2.0.0", "", "CVE-2025"),
    ],
)
def test_runcs_with_known_ways_out(version: str, known: str, closed: str) -> None:
    reported = _runc(version)
    assert known in reported
    assert not closed or closed not in reported


def test_a_runtime_as_podman_reports_it() -> None:
    reported = _runc("runc version 1.1.5+ds1\ncommit: 1\nspec: 1", "OCI Runtime (runc)")
    assert reported.startswith("runc 1.1.5+ds1; known ways out") and "commit" not in reported
    assert _runc("crun version 1.8\nx", "OCI Runtime (crun)") == "crun 1.8"
    assert runtime_check(INFO) == []


def test_engines() -> None:
    assert engine_check(INFO).detail == "docker 27.1 on Linux, kernel 6.1.9"
    assert "CVE-2019-14271" in engine_check(attrs.evolve(INFO, version="19.03.0")).detail
    assert not engine_check(attrs.evolve(INFO, version="20.10.24+dfsg1")).remedy
    desktop = attrs.evolve(INFO, platform="Docker Desktop 4.43.0 (1)")
    assert "CVE-2025-9074" in engine_check(desktop).detail
    assert not engine_check(attrs.evolve(INFO, platform="Docker Desktop 4.45.0 (1)")).remedy


def test_no_program_is_run_for_an_engine_elsewhere() -> None:
    info = attrs.evolve(INFO, runtime_paths={"runsc": "/bin/echo"})
    for local in (True, False):
        assert "does not report" in runsc_check(info, "runsc", local=local).detail


@pytest.mark.engine
def test_doctor_shows_them(engine: docker.APIClient) -> None:
    shown = CliRunner().invoke(app, ["doctor", "-p", "docker"]).output
    assert "kernel" in shown and "runc" in shown
    need("gvisor")
    assert "runsc version" in CliRunner().invoke(app, ["doctor", "-p", "gvisor"]).output
