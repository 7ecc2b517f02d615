"""Real programs behind real walls log in with a key that they never see (E11)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import stockade
from conftest import need
from plugins.secrets.inside import Observer, name_of, programs
from plugins.secrets.servers import KEY, Certified, KeyServer
from plugins.secrets.shells import Sshd
from stockade.config import Mount, Secret
from stockade.events import EventKind
from stockade.plugin import RequestProposal


@pytest.fixture(params=["bubblewrap", "landlock", "docker:stockade-test/work"], ids=name_of)
def wall(request: pytest.FixtureRequest) -> str:
    need(name_of(request.param))
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    made = Sshd(tmp_path / "server")
    yield made
    made.close()


def test_git_clones_and_pushes_by_ssh(wall: str, server: Sshd) -> None:
    repository = server.repository()
    with stockade.open(wall, secrets=[server.secret()]) as session:
        programs(session, "git", "ssh")
        place = f"{server.user}@{server.name}"
        lines = f"""
            set -e
            git clone -q {place}:{repository} here && cat here/hello
            git clone -q ssh://{place}:{server.port}{repository} there && cd there
            git config user.name a && git config user.email a@example.org
            echo more > more && git add more && git commit -q -m more && git push -q
        """
        result = session.shell(lines, timeout=90)
        assert result.success and result.stdout == "hello\n", result
    found = ["git", "-C", repository, "ls-tree", "--name-only", "main"]
    assert b"more" in subprocess.run(found, capture_output=True, check=True).stdout


def test_ssh_logs_in_as_the_named_user_alone(wall: str, server: Sshd) -> None:
    with stockade.open(wall, secrets=[server.secret()]) as session:
        programs(session, "ssh")
        line = f"ssh {server.user}@{server.name} 'cat; echo $USER'"
        said = session.shell(line, stdin="by the way in\n", timeout=60)
        assert said.stdout == f"by the way in\n{server.user}\n", said
        other = session.shell(f"ssh nobody@{server.name} true", timeout=60)
        assert other.exit_code == 255 and "ermission denied" in other.stderr
        key = server.mine.read_text().splitlines()[2]
        look = "grep -rsFf - /tmp /workspace /proc/*/environ"
        assert session.shell(look, stdin=key, timeout=60).stdout == ""
        found = session.shell(f"cat > /tmp/here; {look} < /tmp/here", stdin=key, timeout=60)
        assert found.stdout.startswith("/tmp/here:"), "the search finds what is there"
        assert session.shell("ssh-add -l | grep -c deploy").stdout == "1\n"


def test_a_server_that_shows_another_key_is_told_nothing(server: Sshd, tmp_path: Path) -> None:
    need("bubblewrap")
    other = Sshd(tmp_path / "other", "host.example")
    try:
        known = f"[host.example]:{server.port} " + other.known.read_text().partition(" ")[2]
        server.known.write_text(known)
        with stockade.open("bubblewrap", secrets=[server.secret()]) as session:
            programs(session, "ssh")
            line = f"ssh -o StrictHostKeyChecking=no {server.user}@{server.name} true"
            result = session.shell(line, timeout=60)
        assert result.exit_code == 255 and "not known as one of host.example's" in result.stderr
        assert "Accepted" not in server.log.read_text()
    finally:
        other.close()


def test_a_forwarded_agent_signs_nothing(server: Sshd, tmp_path: Path) -> None:
    """What a server asks, with the program's help: its own login elsewhere, say."""
    need("bubblewrap")
    with stockade.open("bubblewrap", secrets=[server.secret()]) as session:
        programs(session, "ssh")
        there = (
            "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            f"-o IdentityFile=/dev/null -p {server.port} {server.user}@127.0.0.1 echo in"
        )
        line = f"ssh -A {server.user}@{server.name} '{there}'"
        result = session.shell(line, timeout=60)
    assert "in" not in result.stdout.split() and "ermission denied" in result.stderr, result


def _one_login(seen: Sequence[RequestProposal]) -> str | None:
    logins = [one for one in seen if one.method == "SIGN"]
    return "once is enough" if seen[-1] in logins[1:] else None


def test_policies_and_observers_see_logins(server: Sshd) -> None:
    need("bubblewrap")
    observer, runtime = Observer(_one_login), stockade.Runtime(discover_plugins=False)
    runtime.hooks.add(observer)
    with stockade.open("bubblewrap", secrets=[server.secret()], runtime=runtime) as session:
        programs(session, "ssh")
        line = f"ssh {server.user}@{server.name} true"
        assert session.shell(line, timeout=60).success
        assert not session.shell(line, timeout=60).success
    asked = [(one.host, one.method, one.path, one.secrets) for one in observer.proposals]
    once = [
        (server.name, "CONNECT", "", ()),
        (server.name, "SIGN", server.user, ("deploy",)),
    ]
    assert asked == once * 2
    ended = [one for one in observer.events if one.kind is EventKind.REQUEST_ENDED]
    assert [(one.method, str(one.outcome)) for one in ended if one.method == "SIGN"] == [
        ("SIGN", "carried"),
        ("SIGN", "refused"),
    ]


def test_keys_and_values_in_one_session(server: Sshd, trusted: Path, files: Certified) -> None:
    need("bubblewrap")
    web = KeyServer(files)
    try:
        value = Secret("key", env="API_KEY", hosts=[f"api.example:{web.port}=loopback"])
        with stockade.open("bubblewrap", secrets=[server.secret(), value]) as session:
            programs(session, "ssh", "curl")
            asked = 'curl -sS -H "Authorization: Bearer $API_KEY"'
            line = f"{asked} https://api.example:{web.port}/key"
            assert session.shell(line, timeout=60).stdout == "welcome"
            line = f"ssh {server.user}@{server.name} echo in"
            assert session.shell(line, timeout=60).stdout == "in\n"
            assert KEY not in session.shell("env").stdout
    finally:
        web.close()


def test_a_folder_of_this_machine_gets_no_settings(server: Sshd, tmp_path: Path) -> None:
    """Git is led there all the same."""
    need("bubblewrap")
    own = tmp_path / "own"
    own.mkdir()
    repository = server.repository()
    given = {"mounts": [Mount(str(own), "/workspace", read_only=False)]}
    with stockade.open("bubblewrap", secrets=[server.secret()], **given) as session:  # type: ignore[arg-type]
        programs(session, "git", "ssh")
        assert not list(own.iterdir())
        line = f"git clone -q {server.user}@{server.name}:{repository} /tmp/x && cat /tmp/x/hello"
        assert session.shell(line, timeout=60).stdout == "hello\n"


_BY_PROXY = """
import os, socket
way = os.environ["http_proxy"].rpartition("/")[2].partition(":")
sock = socket.create_connection((way[0], int(way[2])), 10)
sock.sendall(b"CONNECT {place} HTTP/1.1\\r\\n\\r\\n")
while b"\\r\\n\\r\\n" not in (said := sock.recv(4096)): pass
sock.sendall({first!r})
print(sock.recv(4096))
"""


def test_by_the_proxy(server: Sshd) -> None:
    """For programs with settings of their own: as curl asks any proxy."""
    need("bubblewrap")
    with stockade.open("bubblewrap", secrets=[server.secret()]) as session:
        place = f"{server.name}:{server.port}"
        code = _BY_PROXY.format(place=place, first=b"SSH-2.0-x\r\n")
        assert session.code(code, timeout=60).stdout.startswith("b'SSH-2.0-OpenSSH")
        code = _BY_PROXY.format(place=place, first=b"GET / HTTP/1.1\r\n")
        assert "another protocol" in session.code(code, timeout=60).stdout


_LISTED = """
import os, socket
sock = socket.socket(socket.AF_UNIX)
sock.connect(os.environ["SSH_AUTH_SOCK"])
sock.sendall(bytes([0, 0, 0, 1, 11]))
print(b"deploy" in sock.recv(4096))
"""


_BEGUN = """
import sys, stockade
secret = stockade.Secret.parse(sys.argv[1])
begun = stockade.open(
    "docker:stockade-test/work", secrets=[secret], durable=True, agent_id="me", lifetime_seconds=300
)
begun.shell("rm -r /tmp/stockade-ssh.config ~/.ssh; mkdir /tmp/stockade-ssh.config; > ~/.ssh")
print(begun.session_id, begun.shell("echo $SSH_AUTH_SOCK").stdout)
"""


def test_a_durable_session_has_its_keys_again(server: Sshd) -> None:
    """In another process, whatever a program has put where its settings were."""
    need("docker")
    words = [sys.executable, "-c", _BEGUN, str(server.secret())]
    done = subprocess.run(words, capture_output=True, check=True, timeout=90)
    session_id, before = done.stdout.decode().split()
    with stockade.attach(session_id, agent_id="me") as again:
        assert again.code(_LISTED, timeout=60).stdout == "True\n"
        assert again.shell("echo $SSH_AUTH_SOCK").stdout.strip() != before


def test_the_command_line(server: Sshd) -> None:
    need("bubblewrap")
    word = f"deploy=ssh:file:{server.mine}@{server.login};known_hosts={server.known}"
    words = ["run", "-p", "bubblewrap", "--trace-egress", "--secret", word, "--shell"]
    done = subprocess.run(
        [sys.executable, "-m", "stockade.cli", *words, f"ssh {server.user}@{server.name} echo in"],
        capture_output=True,
        timeout=90,
        check=False,
    )
    if b"not found" in done.stderr:
        pytest.skip("there is no ssh in this sandbox")
    assert done.stdout == b"in\n", done
    assert f"carried SIGN {server.name} with deploy".encode() in done.stderr
    assert b"PRIVATE KEY" not in done.stderr


def test_rsa_and_ecdsa(tmp_path: Path) -> None:
    need("bubblewrap")
    for kind in ("rsa", "ecdsa"):
        server = Sshd(tmp_path / kind, kind=kind)
        try:
            with stockade.open("bubblewrap", secrets=[server.secret()]) as session:
                programs(session, "ssh")
                line = f"ssh {server.user}@{server.name} echo in"
                assert session.shell(line, timeout=60).stdout == "in\n", kind
        finally:
            server.close()
