"""What a session's container is, seen from the engine and from inside."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import urllib.request
from pathlib import Path

import docker
import pytest

import stockade
from conftest import need
from plugins.docker.conftest import BUSYBOX, PYTHON, container_of, ours, until
from stockade.config import Mount
from stockade.errors import ConfigError, ProviderStringError, SandboxStartError
from stockade.toolkit.mounts import checked
from stockade.wall import OpenRequest
from stockade_docker import engine as engines
from stockade_docker.create import arguments
from stockade_docker.engine import EngineInfo
from stockade_docker.seccomp import own
from stockade_docker.wall import DockerWall

pytestmark = pytest.mark.engine


def test_everything_is_stated(engine: docker.APIClient) -> None:
    with stockade.open(
        f"docker:{BUSYBOX}?memory_mb=64&cpu_limit=0.5&max_processes=50&disk_mb=8",
        agent_id="agent/../x",
        env_vars={"SECRET": "hunter2"},
    ) as session:
        session.run(["true"], env={"OTHER": "hunter3"})
        found = engine.inspect_container(container_of(session))
        host, config = found["HostConfig"], found["Config"]
        assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
        assert "no-new-privileges" in host["SecurityOpt"]
        assert host["ReadonlyRootfs"] and host["IpcMode"] in ("none", "private")
        assert host["Memory"] == host["MemorySwap"] == 64 << 20
        assert host["NanoCpus"] == 500_000_000 and host["PidsLimit"] == 53
        assert host["LogConfig"]["Type"] == "none"
        assert not host["Binds"] and not host["PortBindings"]
        assert config["NetworkDisabled"] and config["User"] not in ("", "65534:65534")
        assert config["Hostname"] == "sandbox"
        labels = config["Labels"]
        assert labels["io.stockade.session"] == session.session_id
        assert "agent/../x" not in json.dumps(found)  # C1
        assert len(labels["io.stockade.agent"]) == 32
        assert "io.stockade.owner" in labels and "io.stockade.expires" in labels
        assert "hunter" not in json.dumps(found)  # B4


def test_a_program_built_there_runs(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{PYTHON}") as session:
        for folder in ("/workspace", "/tmp"):
            line = f"cp /bin/true {folder}/mine && {folder}/mine && echo ran"
            assert session.shell(line).stdout == "ran\n"


def test_nothing_is_reached_from_the_network_that_is_not_there(engine: docker.APIClient) -> None:
    """NetworkDisabled leaves an empty namespace, as network_mode=none does."""
    with stockade.open(f"docker:{BUSYBOX}") as session:
        links = session.shell("ls /sys/class/net; cat /proc/net/route /proc/net/dev").stdout
        names = {line.split(":")[0].strip() for line in links.splitlines() if ":" in line}
        assert names <= {"lo"}
        assert "eth0" not in links


def test_a_network_that_others_are_on_comes_with_a_warning(
    engine: docker.APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    with stockade.open(f"docker:{BUSYBOX}?network_enabled=true") as session:
        (record,) = [found for found in caplog.records if found.name == "stockade.isolation"]
        assert record.levelno == logging.WARNING
        for part in (session.session_id, "reach one another", "network_allow"):
            assert part in record.getMessage()
    caplog.clear()
    with stockade.open(f"docker:{BUSYBOX}"):
        assert not [found for found in caplog.records if found.name == "stockade.isolation"]


@pytest.mark.parametrize("network", ["true", "false"])
def test_published_ports_are_on_loopback_alone(engine: docker.APIClient, network: str) -> None:
    """By the engine where there is a network, and over the link where there is none."""
    with stockade.open(f"docker:{BUSYBOX}?network_enabled={network}&ports=8080") as session:
        session.files.write("/workspace/index.html", b"served")
        session.shell("setsid busybox httpd -f -p 8080 -h /workspace >/dev/null 2>&1 &")
        host, port = session.port(8080)
        assert host == "127.0.0.1"

        def served() -> bool:
            try:
                with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
                    return bool(answer.read() == b"served")
            except OSError:
                return False

        assert until(served)
        with pytest.raises(ConfigError, match="not published"):
            session.port(9)


def test_a_terminal(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{BUSYBOX}") as session:
        terminal = session.terminal(
            ["sh", "-c", "tty; stty size; read x; echo got $x; exit 7"], rows=33, columns=101
        )
        terminal.write(b"word\n")
        shown = b""
        while piece := terminal.read():
            shown += piece
        assert b"/dev/pts/" in shown and b"got word" in shown
        assert terminal.exit_code() == 7
        terminal.close()


def test_mounts(engine: docker.APIClient, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("seen")
    tmp_path.chmod(0o755)
    mounts = [Mount(str(tmp_path / "data"), "/data")]
    with stockade.open(f"docker:{BUSYBOX}", mounts=mounts) as session:
        assert session.shell("cat /data/file; echo x > /data/new").stdout == "seen"
        assert not (tmp_path / "data" / "new").exists()


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/etc",
        "/etc/ssl",
        "/root",
        "/proc/self",
        "/var/run/docker.sock",
        "/usr/../etc",
        "/home",
        "relative",
        "/home/somebody",
        "/var/lib/docker/overlay2",
    ],
)
def test_E9_dangerous_mounts(source: str) -> None:
    with pytest.raises(ConfigError, match="refused"):
        checked([Mount(source, "/data")], local=True)
    with pytest.raises(ConfigError, match="refused"):
        checked([Mount(source, "/data")], local=False)


def test_E9_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "deep").symlink_to(tmp_path / "link")
    with pytest.raises(ConfigError, match="refused"):
        checked([Mount(str(tmp_path / "deep"), "/data")], local=True)
    with pytest.raises(ConfigError, match="cover"):
        checked([Mount(str(tmp_path), "/proc")], local=True)


@pytest.mark.parametrize(
    "image", ["-it", "--privileged", "a b", "UPPER", "x:", "x@sha256:12", "", "a//b", "x;y"]
)
def test_references_that_are_none(image: str) -> None:
    with pytest.raises(ConfigError, match="image"):
        from stockade_docker.images import check_reference

        check_reference(image)


def test_a_missing_image(engine: docker.APIClient) -> None:
    before = ours(engine)
    with pytest.raises(SandboxStartError, match=r"pull=never.*docker pull"):
        stockade.open("docker:stockade-test/nowhere?pull=never")
    with pytest.raises(SandboxStartError, match="cannot be pulled"):
        stockade.open("docker:localhost:1/stockade-test/nowhere?pull_seconds=5")
    assert ours(engine) == before


def test_an_image_by_its_digest(engine: docker.APIClient) -> None:
    identity = engine.inspect_image(BUSYBOX)["Id"]
    with stockade.open(f"docker:{identity}?pull=never") as session:
        assert session.run(["true"]).success
    wrong = "sha256:" + hashlib.sha256(b"no").hexdigest()
    with pytest.raises(SandboxStartError):
        stockade.open(f"docker:{wrong}?pull=never")


@pytest.mark.parametrize(
    "line", ["sleep 300 & echo", "sleep 300"], ids=["left behind", "timed out"]
)
def test_G2_a_pause_takes_as_long_as_it_takes(line: str, engine: docker.APIClient) -> None:
    """Nothing takes a paused sandbox for a lost one."""
    with stockade.open(f"docker:{BUSYBOX}") as session:
        session.shell(line, timeout=0.5)
        session.pause()
        time.sleep(3)
        session.resume()
        assert session.run(["echo", "on"]).stdout == "on\n"


def test_a_custom_seccomp_profile(engine: docker.APIClient, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            }
        )
    )
    with stockade.open(f"docker:{BUSYBOX}") as session:
        assert session.shell("mkdir x").success
    with stockade.open(f"docker:{BUSYBOX}?seccomp={profile}") as session:
        assert not session.shell("mkdir x").success
    with pytest.raises(ConfigError, match="cannot be read"):
        stockade.open(f"docker:{BUSYBOX}?seccomp={tmp_path}/none.json")
    profile.write_text("no JSON")
    with pytest.raises(ConfigError, match="no profile in JSON"):
        stockade.open(f"docker:{BUSYBOX}?seccomp={profile}")


def _info(*security: str) -> EngineInfo:
    return EngineInfo("27.1", "6.1", "Linux", ("runc",), security, "2", is_podman=False)


@pytest.mark.parametrize(
    ("security", "stated"),
    [
        (("name=seccomp,profile=builtin",), ["no-new-privileges", "seccomp=builtin"]),
        (("name=seccomp,profile=default",), ["no-new-privileges"]),  # it has no word for it
        (
            ("name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"),
            ["no-new-privileges", "seccomp=builtin", "apparmor=docker-default"],
        ),
    ],
)
def test_profiles_are_stated(
    engine: docker.APIClient, security: tuple[str, ...], stated: list[str]
) -> None:
    request = OpenRequest(
        session_id="x", agent_hash="x", target=None, config=stockade.SandboxConfig()
    )
    shape = DockerWall(options={"seccomp": "engine"}).shape(request, _info(*security))
    assert arguments(engine, request, shape)["host_config"]["SecurityOpt"] == stated
    shape = DockerWall().shape(request, _info(*security))
    assert f"seccomp={own()}" in arguments(engine, request, shape)["host_config"]["SecurityOpt"]


def test_an_engine_that_filters_nothing_is_refused(
    engine: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: list[tuple[dict[str, str], tuple[str, ...]]] = [
        ({}, ()),
        ({"seccomp": "engine"}, ("name=seccomp,profile=unconfined",)),
    ]
    request = OpenRequest(
        session_id="x", agent_hash="x", target=None, config=stockade.SandboxConfig()
    )
    for options, security in cases:
        monkeypatch.setattr(engines, "look", lambda _, s=security: _info(*s))
        assert "filters no system calls" in DockerWall(options=options).probe().reason
        with pytest.raises(SandboxStartError, match="filters no system calls"):
            DockerWall(options=options).shape(request, _info(*security))
    monkeypatch.setattr(engines, "look", lambda _: _info("name=seccomp,profile=unconfined"))
    assert DockerWall().probe()  # it is given another


def test_an_apparmor_profile_needs_apparmor(engine: docker.APIClient) -> None:
    """Named where there is none, it is refused; where there is, it is stated."""
    request = OpenRequest(
        session_id="x", agent_hash="x", target=None, config=stockade.SandboxConfig()
    )
    wall = DockerWall(options={"apparmor": "mine"})
    with pytest.raises(ConfigError, match="no AppArmor"):
        wall.shape(request, _info("name=seccomp,profile=builtin"))
    shape = wall.shape(request, _info("name=apparmor", "name=seccomp,profile=builtin"))
    assert shape.apparmor == "mine"
    with pytest.raises(ProviderStringError, match="not unconfined"):
        stockade.open(f"docker:{BUSYBOX}?apparmor=unconfined")


def test_E2_the_size_of_shared_memory(engine: docker.APIClient) -> None:
    size = "df -Pk /dev/shm | tail -n 1"
    with stockade.open(f"docker:{BUSYBOX}") as session:
        assert session.shell(size).stdout.split()[1] == str(64 << 10)
    with stockade.open(f"docker:{BUSYBOX}?shm_mb=8") as session:
        assert session.shell(size).stdout.split()[1] == str(8 << 10)


def test_a_snapshot_of_a_writable_root(engine: docker.APIClient, tmp_path: Path) -> None:
    """What its user could change anywhere is saved, and what is gone is gone."""
    image = _image_with_a_users_folder(engine)
    string = f"docker:{image}?read_only_fs=false&user=1000&pull=never"
    try:
        with stockade.open(string) as session:
            line = """
            set -e; cd /home/me
            echo changed > kept; rm gone; mkdir -p "a b/deep"; echo new > "a b/deep/file"
            ln -s /etc/passwd link; chmod 600 kept; echo w > /workspace/w; echo t > /tmp/t
            """
            done = session.shell(line)
            assert done.success, done.stderr
            saved = session.snapshot()
            with pytest.raises(stockade.FileTooLargeError):
                session.snapshot(max_bytes=10)
        saved.save(tmp_path / "saved")
        look = (
            "cd /home/me; cat kept 'a b/deep/file' /workspace/w /tmp/t; readlink link; "
            "stat -c %a kept; test -e gone || echo gone; cat untouched"
        )
        for snapshot in (saved, stockade.Snapshot.load(tmp_path / "saved")):
            with stockade.open(string, snapshot=snapshot) as session:
                seen = session.shell(look).stdout.split()
                assert seen == ["changed", "new", "w", "t", "/etc/passwd", "600", "gone", "still"]
        with pytest.raises(ConfigError, match="read_only_fs"):
            stockade.open(f"docker:{image}?pull=never&user=1000", snapshot=saved)
    finally:
        engine.remove_image(image, force=True)


def _image_with_a_users_folder(engine: docker.APIClient) -> str:
    made = engine.create_container(
        BUSYBOX,
        [
            "sh",
            "-c",
            "mkdir -p /home/me; cd /home/me; echo old > kept; echo > gone; "
            "echo still > untouched; chown -R 1000:1000 /home/me",
        ],
    )["Id"]
    try:
        engine.start(made)
        engine.wait(made)
        engine.commit(made, "stockade-test/writable")
    finally:
        engine.remove_container(made, force=True)
    return "stockade-test/writable"


def test_a_root_that_the_engine_does_not_see_is_not_snapshot(engine: docker.APIClient) -> None:
    need("gvisor")
    with stockade.open(f"gvisor:{BUSYBOX}?read_only_fs=false&user=1000") as session:
        assert session.shell("id -u").stdout == "1000\n"
        with pytest.raises(stockade.UnsupportedError, match="read_only_fs"):
            session.snapshot()
