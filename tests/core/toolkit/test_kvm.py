"""The probe of KVM: what is missing is reported, whatever is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.toolkit import kvm
from stockade.wall import Availability


def test_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kvm, "_DEVICE", str(tmp_path / "kvm"))
    (check,) = kvm.checks()
    assert not check.ok
    assert "there is no" in check.detail
    assert check.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_no_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0o000)
    monkeypatch.setattr(kvm, "_DEVICE", str(device))
    (check,) = kvm.checks()
    assert "no permission" in check.detail
    assert "usermod" in check.remedy


def test_a_device_with_nothing_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_DEVICE", "/dev/null")
    found = Availability(tuple(kvm.checks()))
    assert not found
    assert "/dev/null is there and runs no guest" in found.reason


def test_a_guest_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_GUEST", "import time; time.sleep(60)")
    monkeypatch.setattr(kvm, "_DEVICE", "/dev/null")
    monkeypatch.setattr(kvm, "RUN_SECONDS", 0.5)
    found = Availability(tuple(kvm.checks()))
    assert not found
    assert "did not run within 0.5 s" in found.reason
