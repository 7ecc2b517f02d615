"""A service that lets its caller be root, as E2B's cloud does: the supervisor is then process 1
of a namespace of its own, and programs have no power over it (D16).

The service is `stockade serve` in front of the wall that isolates nothing, on this machine, with
the user `root` let in: what is tried is the way in, and no more than reading and writing is done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stockade
from plugins.e2b.conftest import leads_to, need_parts
from plugins.server.serving import serving
from stockade.session import Session

need_parts()

_SERVER = """
import stockade_server.inside as inside
from stockade.cli import main

inside._USERS = ("", "user", "root")
main()
"""


def _may_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    not _may_unshare(), reason="needs root that may make namespaces, and util-linux"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    """Outside of /tmp, to which the wall that isolates nothing gives another name."""
    made = tempfile.mkdtemp(prefix="stockade-e2b-", dir="/srv")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def session(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    program = tmp_path_factory.mktemp("server") / "serve.py"
    program.write_text(_SERVER)
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[str]:
        return real([sys.executable, str(program), *command[3:]], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "registered"))
        patch.setattr("plugins.server.serving.subprocess.Popen", popen)
        with serving("--template", "base=reference-no-isolation") as found:
            patch.setattr(subprocess, "Popen", real)
            leads_to(found, patch)
            options: Any = {"working_dir": folder, "network_enabled": True}
            with stockade.open("e2b", agent_id="a", **options) as opened:
                yield opened


def test_programs_are_nobody_and_the_supervisor_is_process_1(session: Session) -> None:
    said = session.shell("id -u; id -g; id -G; cat /proc/1/comm; grep NoNewPrivs /proc/self/status")
    assert said.stdout.split()[:3] == ["10001"] * 3
    assert said.stdout.endswith("NoNewPrivs:\t1\n")
    hello = session._record.sandbox.hello  # type: ignore[union-attr]
    assert hello.alone and hello.hidden and hello.uid == 0


def test_the_root_is_read_only_but_for_what_may_be_written(session: Session, folder: str) -> None:
    # The wall in which the server runs it gives /tmp another name.
    line = f"for at in {folder} /var/tmp /dev/shm; do [ -w $at ] || echo $at; done"
    assert session.shell(line).stdout == ""
    for place in ("/", "/etc", "/usr", "/srv", "/opt", "/root"):
        said = session.shell(f"touch {place}/stockade-e2b").stderr
        assert "Read-only" in said or "denied" in said, place
    mounts = session.shell(
        "while read -r _ at _ how _; do echo $at $how; done </proc/mounts"
    ).stdout
    root = [line for line in mounts.splitlines() if line.startswith("/ ")]
    assert root and root[-1].startswith("/ ro")


def test_programs_have_no_power_over_it(session: Session) -> None:
    uid = session.shell("id -u").stdout
    assert uid == "10001\n"  # before anything is signalled: this machine is not to be hit
    for line in ("kill -9 1", "kill -STOP 1", "cat /proc/1/environ", "echo x >/proc/1/fd/1"):
        assert not session.shell(line).success, line
    assert session.shell("echo still").stdout == "still\n"


def test_processes_of_others_do_not_show(session: Session) -> None:
    assert not session.shell(f"[ -e /proc/{os.getpid()} ]").success
