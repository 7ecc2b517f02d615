"""The local walls where namespaces are closed: what `open` and `doctor` say there (A8)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import stockade
import stockade_supervisor
from conftest import need

#: An ordinary user's process from which no namespace can be made, for each way that can be
#: had here: what is done before anything is asked.
_CLOSED = {
    "limit": """
calls.show_files(); kernel.unshare(kernel.CLONE_NEWUSER)
open("/proc/self/setgroups", "w").write("deny")
for name in ("uid_map", "gid_map"): open(f"/proc/self/{name}", "w").write("4711 4711 1")
open("/proc/sys/user/max_user_namespaces", "w").write("0")
""",
    "filter": """
calls.give_up_privileges(); calls.filter_calls(seccomp.program())
""",
}
_ASK = """
import json, os, sys
import stockade
from stockade.toolkit.local import calls, kernel, seccomp
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
os.environ["HOME"] = "/"
exec(sys.argv[1])
reported = {}
for name in ("bubblewrap", "landlock"):
    found = stockade.provider(name).availability()
    reported[name] = [bool(found), found.reason]
try: stockade.open("local").close()
except stockade.StockadeError as error: reported["local"] = [False, str(error)]
print(json.dumps(reported))
"""


@pytest.mark.parametrize(
    ("closed", "switch", "opens"),
    [
        ("limit", "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"),
        ("filter", "a filter of system calls (seccomp)", "--security-opt seccomp=unconfined"),
    ],
)
def test_A8_every_local_wall_names_the_switch(closed: str, switch: str, opens: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become the ordinary user")
    program, path = found()
    done = subprocess.run(
        [program, "-c", _ASK, _CLOSED[closed]],
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert set(reported) == {"bubblewrap", "landlock", "local"}
    for available, reason in reported.values():
        assert not available and switch in reason and opens in reason, reason
    # What Landlock alone would break is said as well, by name.
    assert "modes, owners, times and attributes of the host's files (E2)" in reported["landlock"][1]


def found() -> tuple[str, str]:
    """A Python that every user may run, and where it finds stockade; skips without."""
    need("landlock")
    need("bubblewrap")
    # This interpreter may live in root's home; the system's own of the same version will do.
    program = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    modules = (stockade, attrs, stockade_supervisor)
    folders = [Path(module.__file__ or "").parent for module in modules]
    if not all(step.stat().st_mode & 1 for path in folders for step in (path, *path.parents)):
        pytest.skip("stockade is installed where other users may not read")
    if not os.path.exists(program):
        pytest.skip(f"needs {program}, which other users may run")
    paths = [path for path in sys.path if path and not path.startswith("/root")]
    return program, ":".join([*paths, *(str(folder.parent) for folder in folders)])


_REASON = """
import json, stockade
reported = {}
for name in ("bubblewrap", "landlock"):
    reported[name] = stockade.provider(name).availability().reason
    if not reported[name]:
        with stockade.open(name) as session:
            seen = session.shell("id -u; cat /proc/sys/user/max_user_namespaces; touch /new")
            assert seen.stdout == "1000\\n0\\n" and seen.exit_code == 1, seen
print(json.dumps(reported))
"""
_OPEN = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
_WHOLE_PROC = ["--security-opt", "systempaths=unconfined"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], {"bubblewrap": "seccomp", "landlock": "lacks the right CAP_SYS_ADMIN"}),
        (["--user", "4711:4711"], {"bubblewrap": "seccomp", "landlock": "seccomp"}),
        (
            ["--user", "4711:4711", *_OPEN],
            dict.fromkeys(("bubblewrap", "landlock"), "parts of /proc are masked"),
        ),
        (
            ["--user", "4711:4711", *_OPEN, *_WHOLE_PROC],
            dict.fromkeys(("bubblewrap", "landlock"), ""),
        ),
        (
            [*_OPEN, *_WHOLE_PROC],
            {"bubblewrap": "", "landlock": "lacks the right CAP_SYS_ADMIN"},
        ),
    ],
    ids=["root", "user", "no filter", "as it is said", "root as it is said"],
)
def test_A8_in_a_container_what_is_said_opens_them(
    options: list[str], says: dict[str, str]
) -> None:
    need("docker")
    program, path = found()
    shown = {"/usr", "/etc", "/bin", "/lib", "/lib64", *path.split(":")}
    mounts = [
        word
        for place in sorted(shown)
        if os.path.isdir(place)
        for word in ("--volume", f"{os.path.realpath(place)}:{place}:ro")
    ]
    environment = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": path}
    command = [
        *("docker", "run", "--rm", "--network=none", "--tmpfs=/tmp", *options, *mounts),
        *(f"--env={name}={value}" for name, value in environment.items()),
        *("stockade-test/noshell", program, "-c", _REASON),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    reasons = json.loads(done.stdout)
    for name, words in says.items():
        assert words in reasons[name] and bool(words) == bool(reasons[name]), reasons[name]
