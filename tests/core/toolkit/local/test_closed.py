"""Why namespaces cannot be had: every cause that can be made here is made, and tried for real."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from core.toolkit.local.others import run_as_other
from stockade.toolkit.local import closed

#: What each cause does before it asks, in a process of its own that begins as root. The
#: program that asks is an ordinary user's, or root's where ``stay``.
_CAUSES = {
    "limit": """
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
calls.show_files(); kernel.unshare(kernel.CLONE_NEWUSER)
for name, text in (("setgroups", "deny"), ("uid_map", "4711 4711 1"), ("gid_map", "4711 4711 1")):
    open(f"/proc/self/{name}", "w").write(text)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
""",
    "outer limit": """
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
for most in ("0", None):
    calls.show_files(); kernel.unshare(kernel.CLONE_NEWUSER)
    open("/proc/self/setgroups", "w").write("deny")
    for name in ("uid_map", "gid_map"): open(f"/proc/self/{name}", "w").write("4711 4711 1")
    if most: open("/proc/sys/user/max_user_namespaces", "w").write("1")
""",
    "filter": """
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
calls.give_up_privileges(); calls.filter_calls(seccomp.program())
""",
    "chroot": """
kernel.unshare(kernel.CLONE_NEWNS); kernel.make_private()
place = "/mnt"; kernel.mount("/", place, flags=4096 | 16384)
os.chroot(place)
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
""",
    "masked proc": """
kernel.unshare(kernel.CLONE_NEWNS); kernel.make_private()
kernel.mount("tmpfs", "/proc/acpi" if os.path.isdir("/proc/acpi") else "/proc/fs", "tmpfs", 1)
os.setgroups([]); os.setresgid(4711, 4711, 4711); os.setresuid(4711, 4711, 4711)
""",
    "root of a container": """
calls.give_up_privileges()
""",
}
_ASK = """
import json, os, sys
from stockade.toolkit.local import calls, closed, kernel, seccomp
exec(sys.argv[1])
found = closed.namespace_check("its own words", 0)
print(json.dumps([found.ok, found.detail, found.remedy]))
"""


def asked(cause: str) -> tuple[str, str]:
    done = run_as_other(_ASK, _CAUSES[cause], reads=False)
    assert done.returncode == 0, done.stderr
    ok, detail, remedy = json.loads(done.stdout)
    assert not ok and "its own words" in detail
    return detail, remedy


@pytest.mark.parametrize(
    ("cause", "says", "opens"),
    [
        ("limit", "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"),
        ("outer limit", "here or in the namespace around", "on the host"),
        ("filter", "a filter of system calls (seccomp)", "seccomp=unconfined"),
        ("chroot", "runs in a chroot", "not in a chroot"),
        ("masked proc", "parts of /proc are masked", "systempaths=unconfined"),
        ("root of a container", "root lacks the right CAP_SYS_ADMIN", "as an ordinary user"),
    ],
)
def test_A8_the_cause_is_said_and_what_opens_it(cause: str, says: str, opens: str) -> None:
    detail, remedy = asked(cause)
    assert says in detail and opens in remedy, (detail, remedy)


@pytest.mark.parametrize(
    ("name", "value", "step", "number", "opens"),
    [
        ("unprivileged_userns_clone", "0", "user", errno.EPERM, "=1"),
        ("apparmor_restrict_unprivileged_userns", "1", "user", errno.EACCES, "=0"),
        ("apparmor_restrict_unprivileged_userns", "1", "map", errno.EPERM, "=0"),
        ("apparmor_restrict_unprivileged_userns", "1", "loopback", errno.EPERM, "=0"),
        ("apparmor_restrict_unprivileged_userns", "1", "mount", errno.EACCES, "=0"),
    ],
)
def test_A8_switches_that_this_kernel_does_not_have(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, step: str, number: int, opens: str
) -> None:
    monkeypatch.setattr(closed, "_setting", {f"kernel/{name}": value}.get)
    found = closed.explained(step, number, ordinary=True)
    assert found.words == f"kernel.{name} is {value}"
    assert f"sysctl -w kernel.{name}{opens}" in found.remedy
    # They bind ordinary users alone.
    assert name not in closed.explained(step, number, ordinary=False).words


def test_what_no_switch_explains_names_the_security_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported = {"/proc/self/attr/current": "docker-default (enforce)"}
    monkeypatch.setattr(closed, "_text", lambda path: reported.get(path, ""))
    for step in ("user", "mount"):
        found = closed.explained(step, errno.EACCES, ordinary=True)
        assert "'docker-default (enforce)'" in found.words
    assert "built without" in closed.explained("user", errno.EINVAL, ordinary=True).words


def test_A8_apparmor_may_refuse_one_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "kernel/apparmor_restrict_unprivileged_userns"
    monkeypatch.setattr(closed, "_setting", {name: "1"}.get)
    monkeypatch.setattr(closed, "_found", lambda uid: None)
    found = closed.namespace_check("its own words", 4711)
    assert f"{name.replace('/', '.')} is 1 (its own words)" == found.detail


def test_where_every_step_works_the_walls_own_words_stand(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user may have no namespaces here")
    found = closed.namespace_check("its own words", 0)
    assert found.detail == "its own words" and not found.ok
