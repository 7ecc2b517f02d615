"""gVisor by a RuntimeClass, where the cluster has its shim: STOCKADE_CLUSTER_GVISOR=yes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import stockade
from plugins.kubernetes.conftest import HOME
from stockade.capabilities import Isolation
from stockade.errors import SandboxStartError
from stockade.results import Verdict

errors: Any = pytest.importorskip("stockade_kubernetes.errors")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def on_gvisor(on_cluster: str) -> str:
    if not Path(HOME, "runsc.toml").exists():
        pytest.skip("the cluster has no shim of gVisor: STOCKADE_CLUSTER_GVISOR=yes .ci/cluster up")
    return f"{on_cluster}&runtime_class=runsc"


def test_the_kernel_inside_is_gvisors(on_gvisor: str) -> None:
    assert stockade.provider(on_gvisor).wall.isolation is Isolation.KERNEL
    with stockade.open(on_gvisor) as session:
        assert "Starting gVisor" in session.run(["dmesg"]).stdout
        assert session.run(["uname", "-r"]).stdout == "4.4.0\n"
        assert session.code("print(6 * 7)", language="python").stdout == "42\n"
        session.files.write("/workspace/x", b"kept")
        assert session.run(["cat", "/workspace/x"]).stdout == "kept"


def test_what_can_be_written_is_bounded_there_too(on_gvisor: str) -> None:
    with stockade.open(on_gvisor, disk_mb=8) as session:
        for folder in ("/workspace", "/tmp", "/var/tmp"):
            line = f"dd if=/dev/zero of={folder}/x bs=1M count=32 2>/dev/null; wc -c <{folder}/x"
            result = session.shell(line)
            assert result.verdict is Verdict.EXITED
            assert int(result.stdout.split()[-1]) <= 8 << 20, folder


def test_gvisor_that_was_to_be_kata_is_refused(on_gvisor: str) -> None:
    with pytest.raises(SandboxStartError, match="was to be Kata|may not read nodes"):
        stockade.open(f"{on_gvisor}&kernel=kata")
