"""Real programs behind real walls use a key that they never see (E11)."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stockade
from conftest import need
from plugins.secrets.gits import GitServer
from plugins.secrets.inside import Observer, opened, programs
from plugins.secrets.servers import KEY, KeyServer
from stockade.config import Mount
from stockade.events import EventKind
from stockade.session import Session

CURL = 'curl -sS -H "Authorization: Bearer $API_KEY" https://api.example:{port}/{path}'
URLLIB = """
import os, urllib.request
url = "https://api.example:{port}/key"
given = {{"Authorization": "Bearer " + os.environ["API_KEY"]}}
print(urllib.request.urlopen(urllib.request.Request(url, headers=given)).read().decode())
"""
NODE = """
const headers = {{authorization: "Bearer " + process.env.API_KEY}};
fetch("https://api.example:{port}/key", {{headers}})
  .then(answer => answer.text()).then(console.log)
"""


def test_curl(wall: str, server: KeyServer) -> None:
    with opened(wall, server.port) as session:
        programs(session, "curl")
        result = session.shell(CURL.format(port=server.port, path="key"), timeout=30)
        assert result.stdout == "welcome", result
        echoed = session.shell(CURL.format(port=server.port, path="gzip"), timeout=30)
        assert (
            "*" * len(KEY)
            in session.shell(
                CURL.format(port=server.port, path="echo") + " --compressed", timeout=30
            ).stdout
        )
        assert KEY.encode() not in echoed.stdout_bytes
        assert b"*" * len(KEY) in echoed.stdout_bytes, "it was unpacked, and looked at"


def test_curl_puts_large_bodies_up(wall: str, server: KeyServer) -> None:
    """It asks first whether it may (Expect)."""
    with opened(wall, server.port) as session:
        programs(session, "curl")
        line = "head -c 3000000 /dev/zero | " + CURL.format(port=server.port, path="key")
        result = session.shell(f"{line} -H 'Expect: 100-continue' --data-binary @-", timeout=40)
        assert result.stdout == "welcome", result
        assert len(server.last()[3]) == 3_000_000


def test_urllib(wall: str, server: KeyServer) -> None:
    with opened(wall, server.port) as session:
        programs(session, "python3")
        if not session.shell("python3 -c 'import urllib.request, ssl'").success:
            pytest.skip("the sandbox's Python has no urllib")
        assert session.code(URLLIB.format(port=server.port), timeout=30).stdout == "welcome\n"


@pytest.mark.parametrize("name", ["requests", "httpx"])
def test_libraries(server: KeyServer, name: str) -> None:
    """Those of this environment, shown inside."""
    need("bubblewrap")
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"{name} is not installed here")
    libraries = Mount(str(Path(found.origin).parents[1]), "/libraries")
    with opened("bubblewrap", server.port, mounts=[libraries]) as session:
        environment = {"PYTHONPATH": "/libraries"}
        code = f"""
import os, {name}
given = {{"Authorization": "Bearer " + os.environ["API_KEY"]}}
print({name}.get("https://api.example:{server.port}/key", headers=given).text)
"""
        result = session.code(code, env=environment, timeout=60)
        if "ModuleNotFoundError" in result.stderr or "ImportError" in result.stderr:
            pytest.skip(f"the sandbox's Python is another one: {result.stderr[-200:]}")
        assert result.stdout == "welcome\n", result


def test_fetch_of_node(wall: str, server: KeyServer) -> None:
    with opened(wall, server.port) as session:
        programs(session, "node")
        # Since version 24 it heeds the variables for proxies, where this one is set.
        environment = {"NODE_USE_ENV_PROXY": "1"}
        code = NODE.format(port=server.port)
        result = session.run(["node", "-e", code], env=environment, timeout=40)
        if "ENOTFOUND" in result.stderr or "EAI_AGAIN" in result.stderr:
            pytest.skip("this node heeds no proxy")
        assert result.stdout == "welcome\n", result


def test_git_clones_and_pushes(wall: str, trusted: Path, git: GitServer) -> None:
    with opened(wall, git.port) as session:
        programs(session, "git")
        url = f"https://user:$API_KEY@api.example:{git.port}/repository"
        lines = f"""
            set -e
            git clone -q "{url}" here && cd here && cat hello
            git config user.name a && git config user.email a@example.org
            echo more > more && git add more && git commit -q -m more && git push -q
        """
        result = session.shell(lines, timeout=60)
        assert result.success and result.stdout == "hello\n", result
        assert "more" in git.files()
        assert KEY not in session.shell("cat here/.git/config").stdout


def test_pip_installs_from_a_private_index(wall: str, server: KeyServer) -> None:
    with opened(wall, server.port) as session:
        if not session.shell("python3 -m pip --version").success:
            pytest.skip("there is no pip in this sandbox")
        url = f"https://user:$API_KEY@api.example:{server.port}/simple"
        line = (
            f'python3 -m pip install -q --no-input --target here --index-url "{url}" private-thing'
        )
        result = session.shell(f"{line} && cat here/private_thing.py", timeout=90)
        assert "found = True" in result.stdout, result


def test_the_value_is_nowhere_inside(wall: str, server: KeyServer) -> None:
    """Searched as root, from outside: variables, files, and the memory of every process."""
    if os.geteuid() != 0:
        pytest.skip("only root reads the memory of others")
    with opened(wall, server.port) as session:
        programs(session, "curl", "python3")
        line = CURL.format(port=server.port, path="echo")
        assert session.shell(f"{line} > answer; cat answer", timeout=30).success
        waiting = session.start(shell=f"x=$({line}); export x; sleep 60 & {line}; wait")
        assert server.last()
        pids = _inside(wall, session)
        assert len(pids) >= 2
        shown = [place for pid in pids for place in _shown(pid)]
        waiting.cancel()
        assert shown == []
        look = subprocess.run(
            [sys.executable, "-c", _TWICE, KEY], capture_output=True, check=True, timeout=60
        )
        assert look.stdout == b"found\n", "the search finds what is there"


def _inside(wall: str, session: Session) -> list[int]:
    """The sandbox's processes, as this machine numbers them."""
    sandbox = session._record.sandbox
    if wall.startswith("docker"):
        container = sandbox.container  # type: ignore[union-attr]
        found = subprocess.run(
            ["docker", "top", container, "-eo", "pid"], capture_output=True, check=True, timeout=30
        )
        return [int(word) for word in found.stdout.split()[1:]]
    below, own = {sandbox.init_pid}, os.readlink("/proc/self/ns/pid")  # type: ignore[union-attr]
    while more := {pid for parent in below for pid in _children(parent)} - below:
        below |= more
    return [pid for pid in below if os.readlink(f"/proc/{pid}/ns/pid") != own]


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _shown(pid: int) -> list[str]:
    """Where the value shows in a process and in the files that it sees."""
    wanted = [KEY.encode(), base64.b64encode(KEY.encode())[:-4]]
    found = []
    for name in ("environ", "cmdline"):
        with contextlib.suppress(OSError):
            data = Path(f"/proc/{pid}/{name}").read_bytes()
            found += [f"{pid} {name}" for one in wanted if one in data]
    with contextlib.suppress(OSError), open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(low)
                data = memory.read(high - low)
                found += [f"{pid} memory {line}" for one in wanted if one in data]
    for top in ("tmp", "workspace", "var/tmp", "dev/shm", "run", "etc"):
        if os.path.islink(f"/proc/{pid}/root/{top}"):
            continue  # to /tmp; from here it would lead to this machine's
        for folder, _, names in os.walk(f"/proc/{pid}/root/{top}"):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.path.isfile(path) and not os.path.islink(path):
                        data = Path(path).read_bytes()
                        found += [path for one in wanted if one in data]
    return found


#: That the way of looking finds anything at all.
_TWICE = """
import sys
low = {}
held = sys.argv[1]
for line in open("/proc/self/maps"):
    first, _, last = line.split()[0].partition("-")
    try:
        with open("/proc/self/mem", "rb", 0) as memory:
            memory.seek(int(first, 16))
            if held.encode() in memory.read(int(last, 16) - int(first, 16)):
                print("found"); break
    except (OSError, ValueError, OverflowError): pass
"""


def test_policies_and_observers_see_where_it_goes(server: KeyServer) -> None:
    need("bubblewrap")
    observer = Observer(lambda seen: "not this path" if seen[-1].path == "/no" else None)
    runtime = stockade.Runtime(discover_plugins=False)
    runtime.hooks.add(observer)
    with opened("bubblewrap", server.port, runtime=runtime, agent_id="me") as session:
        programs(session, "curl")
        assert session.shell(CURL.format(port=server.port, path="key"), timeout=30).success
        refused = session.shell(CURL.format(port=server.port, path="no"), timeout=30)
        session.shell("curl -s https://nowhere.example/")
    assert "not this path" in refused.stdout
    asked = [(one.agent_id, one.method, one.path, one.secrets) for one in observer.proposals]
    assert asked == [("me", "GET", "/key", ("key",)), ("me", "GET", "/no", ("key",))]
    ended = [one for one in observer.events if one.kind is EventKind.REQUEST_ENDED]
    assert [(one.host, one.outcome, one.status) for one in ended] == [
        ("api.example", "carried", 200),
        ("api.example", "refused", None),
        ("nowhere.example", "refused", None),
    ]
    assert KEY not in str(observer.events) + str(observer.proposals)


def test_the_command_line(server: KeyServer, tmp_path: Path) -> None:
    need("bubblewrap")
    place = f"api.example:{server.port}=loopback"
    file = tmp_path / "stockade.toml"
    file.write_text(f'[[secrets]]\nname = "key"\nenv = "API_KEY"\nhosts = ["{place}"]\n')
    file.chmod(0o600)
    for given in (["--secret", f"key=env:API_KEY@{place}"], ["--secrets", str(file)]):
        words = ["run", "-p", "bubblewrap", "--trace-egress", *given, "--shell"]
        done = subprocess.run(
            [sys.executable, "-m", "stockade.cli", *words, CURL.format(port=server.port, path="")],
            capture_output=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert done.stdout == b"welcome", done
        assert b"carried 200 GET api.example with key" in done.stderr
        assert KEY.encode() not in done.stderr


def test_a_file_that_lies_in_the_folder_gives_no_secret(server: KeyServer, tmp_path: Path) -> None:
    """Whoever filled the folder would choose which key goes where."""
    need("bubblewrap")
    text = '[[secrets]]\nname = "key"\nenv = "API_KEY"\nhosts = ["evil.example"]\n'
    (tmp_path / "stockade.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "stockade.cli", "run", "-p", "bubblewrap", "--", "env"],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and b"API_KEY" not in done.stdout and b"proxy" not in done.stdout
