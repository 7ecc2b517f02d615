"""What a container has in /etc and for temporary files, and what that leaves here (E2, E3, C9)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, container_of
from plugins.docker.own_engine import own_engine
from plugins.docker.test_seccomp import PODMAN
from stockade.config import Mount
from stockade.errors import SandboxStartError
from stockade.ledger._sqlite import SqliteLedger
from stockade.sessions._runtime import Runtime
from stockade.wall import OpenRequest
from stockade_docker import etc
from stockade_docker.create import LABEL
from stockade_docker.wall import DockerWall

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]

#: Serves a line by the image's own programs, and fetches it by name.
FETCH = (
    "echo here > index.html; httpd -p 127.0.0.1:8099 -h . && "
    "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://localhost:8099/ && break; sleep 0.2; done"
)


def left() -> list[str]:
    """What is there of such files, whoever made them in this process."""
    return [f.handle for f in etc.leftovers() if f":{os.getpid()}:" in f.owner]


@pytest.mark.parametrize("string", [f"docker:{BUSYBOX}", f"gvisor:{BUSYBOX}", PODMAN])
def test_E3_localhost_and_the_users_account(string: str) -> None:
    need("gvisor" if string.startswith("gvisor") else "docker")
    with stockade.open(string) as session:
        assert not left()
        assert session.shell(FETCH).stdout == "here\n"
        assert session.shell("whoami; echo $USER $LOGNAME $HOME; echo ~sandbox").stdout == (
            "sandbox\nsandbox sandbox /workspace\n/workspace\n"
        )
        hosts = session.files.read("/etc/hosts").decode()
        names = {name for line in hosts.splitlines() for name in line.split()[1:]}
        assert names == {"localhost", "ip6-localhost", "ip6-loopback", "sandbox"}  # E7
        for path in ("/etc/hosts", "/etc/passwd", "/etc/group"):
            assert not session.shell(f"echo x >> {path}").success
        shown = session.shell("grep -E ' /etc/(hosts|passwd|group) ' /proc/self/mountinfo").stdout
        assert os.path.expanduser("~") not in shown and str(os.getpid()) not in shown  # E7


def test_an_account_that_the_caller_chose_is_the_images() -> None:
    with stockade.open(f"docker:{BUSYBOX}?user=7") as session:
        assert session.files.read("/etc/passwd") == b"root:x:0:0:root:/root:/bin/sh\n"
        assert session.shell("echo $USER").stdout == "\n"


def test_localhost_where_there_is_a_network() -> None:
    with stockade.open(f"docker:{BUSYBOX}?network_enabled=true") as session:
        assert session.shell("whoami").stdout == "sandbox\n"
        assert session.shell(FETCH).stdout == "here\n"


def test_an_engine_that_does_not_find_our_files(engine: docker.APIClient) -> None:
    """As one whose socket alone is here: it makes /etc/hosts itself."""
    with own_engine(engine, hides="/dev/shm") as own:
        for _ in range(2):
            with stockade.open(own.string) as session:
                assert session.shell(FETCH).stdout == "here\n"
                assert session.shell("echo $USER").stdout == "sandbox\n"
                found = own.client().inspect_container(container_of(session))
                assert found["HostConfig"]["NetworkMode"] == "none"
        assert not left()


def test_C5_nothing_stays_of_a_start_that_fails() -> None:
    with pytest.raises(SandboxStartError):
        stockade.open(f"docker:{BUSYBOX}?working_dir=/proc/none")
    assert not left()


def test_C9_what_a_dead_process_left_is_found_and_removed(tmp_path: Path) -> None:
    config = stockade.SandboxConfig(user="7:7")
    request = OpenRequest(
        session_id="ses-left", agent_hash="x", target=None, config=config, owner="1:me:::1:1"
    )
    files = etc.made(request, etc.texts(request, own_user=True, podman=False))
    made = files.__enter__()
    try:
        wall = DockerWall()
        (found,) = [one for one in wall.leftovers() if one.session_id == "etc-ses-left"]
        assert found.owner == "1:me:::1:1" and not found.running and made.folder in found.words
        assert wall.usage(found) is None
        wall.remove(found)
        wall.remove(found)  # gone already is well too
        assert not os.path.lexists(made.folder)
        assert not [one for one in etc.leftovers() if one.session_id == "etc-ses-left"]
    finally:
        files.__exit__(None, None, None)


#: Dies in one of docker-py's calls, or when its container has started and its files are here.
_DIES = """
import os, sys
import docker, stockade
from stockade_docker import etc

def die(*_, **__):
    os.kill(os.getpid(), 9)

if sys.argv[2] == "started":
    etc.remove = die
else:
    docker.APIClient.create_container = die
stockade.open(sys.argv[1], durable=True)
"""


@pytest.mark.parametrize("when", ["started", "asked for"])
def test_C9_a_container_and_its_files_are_found_each_by_itself(
    when: str, engine: docker.APIClient, tmp_path: Path
) -> None:
    """Both are listed in one pass, or a slow engine makes the container after it."""
    path = tmp_path / "ledger.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", _DIES, f"docker:{BUSYBOX}?pull=never", when],
        env={**os.environ, "STOCKADE_LEDGER": str(path), "STOCKADE_GC": "off"},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(path))
    assert runtime.ledger is not None
    (record,) = runtime.ledger.sessions()

    def there() -> list[str]:
        wanted = {"label": f"{LABEL}session={record.session_id}"}
        found = [str(one["Id"]) for one in engine.containers(all=True, filters=wanted)]
        return [*found, *(one.handle for one in etc.leftovers() if one.owner == record.owner)]

    assert len(there()) == (2 if when == "started" else 1)
    assert not stockade.collect(runtime=runtime).failed
    assert not there() and not runtime.ledger.sessions()
    if when == "asked for":
        words = {"session": record.session_id, "owner": record.owner, "durable": "1"}
        labels = {f"{LABEL}{name}": word for name, word in words.items()}
        engine.create_container(BUSYBOX, ["true"], labels=labels)
        assert there()
        stockade.collect(runtime=runtime)
        assert not there()


def test_E2_temporary_files_beside_mounts(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for place in ("/tmp", "/var/tmp"):
        mounts = [Mount(str(tmp_path), place, read_only=False)]
        with stockade.open(f"docker:{BUSYBOX}", mounts=mounts) as session:
            assert session.shell(f"echo x > {place}/mine").success
        assert (tmp_path / "mine").exists()
        (tmp_path / "mine").unlink()
    for place in ("/var/tmp", "/var/tmp/deeper"):
        with stockade.open(f"docker:{BUSYBOX}?working_dir={place}") as session:
            assert session.shell("pwd; echo x > x && cat x").stdout == f"{place}\nx\n"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Mount]:
    """The standard library of this machine, where the image's is a part of the same one."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    source = Path(f"/usr/lib/python{version}")
    if not (source / "lib-dynload").is_dir():
        pytest.skip("no library of a system's Python here")
    with stockade.open(f"docker:{PYTHON}") as session:
        if version not in session.shell("python3 --version").stdout:
            pytest.skip("the image has another Python")
    tmp_path.chmod(0o755)
    skipped = shutil.ignore_patterns("test", "idlelib", "dist-packages", "__pycache__", "config-*")
    shutil.copytree(source, tmp_path / "library", ignore=skipped)
    yield Mount(str(tmp_path / "library"), "/library")


@pytest.mark.parametrize("string", [f"docker:{PYTHON}", f"gvisor:{PYTHON}"])
def test_E2_multiprocessing_works(string: str, library: Mount) -> None:
    from stockade.testing.checks.e_limits import _SHARE

    need(string.partition(":")[0])
    code = f"import sys; sys.path += ['/library', '/library/lib-dynload']\n{_SHARE}"
    with stockade.open(string, mounts=[library]) as session:
        result = session.code(code)
        assert result.stdout == "shared\n", result.stderr
