"""The local walls where namespaces are closed: what `open` and `doctor` say there (A8)."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

import stockade
from conftest import need
from core.toolkit.local.others import python_for_others, run_as_other

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
    need("landlock")
    need("bubblewrap")
    done = run_as_other(_ASK, _CLOSED[closed])
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert set(reported) == {"bubblewrap", "landlock", "local"}
    for available, reason in reported.values():
        assert not available and switch in reason and opens in reason, reason
    # What Landlock alone would break is said as well, by name.
    assert "modes, owners, times and attributes of the host's files (E2)" in reported["landlock"][1]


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
    need("landlock")
    need("bubblewrap")
    program, variables = python_for_others()
    shown = {"/usr", "/etc", "/bin", "/lib", "/lib64", *variables["PYTHONPATH"].split(":")}
    mounts = [
        word
        for place in sorted(shown)
        if os.path.isdir(place)
        for word in ("--volume", f"{os.path.realpath(place)}:{place}:ro")
    ]
    environment = {**variables, "HOME": "/tmp", "PATH": "/usr/bin:/bin"}
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


@pytest.mark.parametrize("wall", ["landlock", "bubblewrap"])
@pytest.mark.parametrize("target", ["", ":/"])
def test_A8_what_is_as_it_must_be_wants_no_mending(wall: str, target: str) -> None:
    found = stockade.provider(f"{wall}{target}").availability()
    assert found.checks
    assert [check for check in found.checks if check.ok and check.remedy] == []
