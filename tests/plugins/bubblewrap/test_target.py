"""A folder of the host's as the root, and where the working folder may be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade


def test_a_target_becomes_the_root(bubblewrap: str, root: Path) -> None:
    with stockade.open(f"{bubblewrap}:{root}") as session:
        result = session.shell("echo $0; cat /etc/made; ls /; echo x > f; cat f; cat /linked")
        assert "of the target" in result.stdout and "x\n" in result.stdout
        # A link of the target leads to where it says inside, not on the host.
        assert not Path("/linked").exists()
        assert Path("/etc/passwd").read_text() not in result.stdout
        assert not session.shell("cat /shadow /absolute/shadow").stdout
        assert not session.shell("echo x > /etc/x || echo x > /x").success


def test_a_target_with_a_working_folder_that_is_not_there(bubblewrap: str, root: Path) -> None:
    with stockade.open(f"{bubblewrap}:{root}", working_dir="/etc/deep/work") as session:
        assert session.shell("pwd; echo x > f; cat f; cat /etc/made").stdout.split() == [
            "/etc/deep/work",
            "x",
            "of",
            "the",
            "target",
        ]
    assert not (root / "etc/deep").exists()


def test_a_working_folder_in_the_hosts_folders(bubblewrap: str) -> None:
    with stockade.open(bubblewrap, working_dir="/usr/share/stockade-test/work") as session:
        result = session.shell("pwd; echo x > f; cat f; echo y > ../g")
        assert result.stdout.split() == ["/usr/share/stockade-test/work", "x"]
    assert not os.path.exists("/usr/share/stockade-test")


@pytest.mark.parametrize("folder", ["/tmp", "/proc/x", "/dev/shm", "/sys/x", "/tmp/inner"])
def test_a_working_folder_that_cannot_be(bubblewrap: str, folder: str) -> None:
    with pytest.raises(stockade.ConfigError, match="working_dir"):
        stockade.open(bubblewrap, working_dir=folder)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A root folder of its own: busybox, where there is a static one."""
    busybox = shutil.which("busybox")
    if busybox is None or b"/ld-" in Path(busybox).read_bytes()[:4096]:
        pytest.skip("needs a static busybox (apt-get install busybox-static)")
    made = Path("/var/tmp") / f"stockade-root-{os.getpid()}-{tmp_path.name}"
    for folder in ("bin", "etc", "tmp"):
        (made / folder).mkdir(parents=True)
    shutil.copy(busybox, made / "bin/busybox")
    for name in ("sh", "cat", "dd", "grep", "mkfifo", "rm", "ls", "sleep", "env", "true"):
        (made / "bin" / name).symlink_to("busybox")
    (made / "etc/made").write_text("of the target\n")
    (made / "linked").symlink_to("/etc/passwd")
    (made / "shadow").symlink_to("/etc/shadow")
    (made / "absolute").symlink_to("/etc")
    yield made
    shutil.rmtree(made)
