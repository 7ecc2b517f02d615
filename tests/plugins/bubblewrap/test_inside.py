"""The bubblewrap wall as the code inside sees it; it is attacked here, the host watched."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

import stockade
import stockade_bubblewrap
from plugins.bubblewrap.conftest import inner, marked, until
from stockade import Session


def status(session: Session) -> dict[str, str]:
    text = session.run(["cat", "/proc/self/status"]).stdout
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def host_ids(pid: int) -> set[str]:
    """All user ids of a process, as the host has them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Uid:"):
            return set(line.split()[1:])
    raise AssertionError(pid)


@pytest.mark.parametrize("overlapping", [0, 1])
def test_E1_no_right_in_any_execution(session: Session, overlapping: int) -> None:
    held = [session.start(["sleep", "30"]) for _ in range(overlapping)]
    seen = status(session)
    for execution in held:
        execution.cancel()
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"):
        assert int(seen[name], 16) == 0, name
    assert (seen["NoNewPrivs"], seen["Seccomp"], seen["Seccomp_filters"]) == ("1", "2", "1")
    assert set(seen["Uid"].split()) == set(seen["Gid"].split()) == {"1000"}
    assert set(seen["Groups"].split()) <= {"1000", "65534"}


def test_E12_executions_are_alike(session: Session) -> None:
    """Whatever one execution has, one that overlaps it has too (E12)."""
    look = (
        "readlink /proc/self/ns/cgroup /proc/self/ns/ipc /proc/self/ns/mnt /proc/self/ns/net "
        "/proc/self/ns/pid /proc/self/ns/user /proc/self/ns/uts; cat /proc/self/limits; "
        "cat /proc/self/cgroup; env | sort; umask; pwd; cat /proc/self/attr/current; "
        "grep -E 'Sig(Ign|Blk)' /proc/self/status; for f in /proc/self/fd/*; do echo ${f##*/}; done"
    )
    first = session.shell(look).stdout
    held = session.start(["sleep", "30"])
    time.sleep(0.2)
    second = session.shell(look).stdout
    held.cancel()
    assert first == second and len(first.splitlines()) > 20


def test_E1_on_the_host_nobody_with_rights_runs_it(session: Session) -> None:
    mark = f"41{os.getpid()}"
    execution = session.start(["sleep", mark])
    other = session.start(["sleep", mark])
    assert until(lambda: len(marked(f"sleep {mark}")) == 2)
    session.shell("echo x > made; mkdir folder; echo x > /tmp/made")
    found = marked(f"sleep {mark}")
    ids = {pid: host_ids(pid) for pid in found}
    root = f"/proc/{inner(session).init_pid}/root"
    owners = {
        os.lstat(f"{root}{path}").st_uid
        for path in ("/workspace/made", "/workspace/folder", "/tmp/made")
    }
    execution.cancel()
    other.cancel()
    assert len(found) == 2
    for seen in ids.values():
        assert len(seen) == 1 and "0" not in seen
    assert {str(owner) for owner in owners} == set.union(*ids.values())
    if os.geteuid() == 0:
        assert all(int(uid) > 65535 for uid in set.union(*ids.values()))


def test_E8_sessions_of_root_are_different_users(bubblewrap: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's sessions run as that user")
    with stockade.open(bubblewrap) as one, stockade.open(bubblewrap) as two:
        assert host_ids(inner(one).init_pid) != host_ids(inner(two).init_pid)


def test_a_user_of_the_callers_choice(bubblewrap: str) -> None:
    with stockade.open(bubblewrap, user="4242:4343") as session:
        assert session.shell("id -u; id -g; echo x > f && stat -c %u:%g f").stdout.split() == [
            "4242",
            "4343",
            "4242:4343",
        ]


CALLS = {
    "unshare user": "libc.unshare(0x10000000)",
    "unshare mount": "libc.unshare(0x20000)",
    "clone user": "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "clone3": "libc.syscall(435, ctypes.create_string_buffer(88), 88)",
    "setns": "libc.setns(os.open('/proc/self/ns/mnt', 0), 0)",
    "mount": "libc.mount(b'x', b'/tmp', b'tmpfs', 0, None)",
    "remount": "libc.mount(b'none', b'/', None, 32, None)",
    "umount": "libc.umount2(b'/workspace', 2)",
    "fsopen": "libc.syscall(430, b'tmpfs', 0)",
    "open_tree": "libc.syscall(428, -100, b'/', 1)",
    "pivot_root": "libc.syscall(155, b'/tmp', b'/tmp')",
    "chroot": "libc.chroot(b'/tmp')",
    "ptrace": "libc.ptrace(16, 1, 0, 0)",
    "process_vm_readv": "libc.process_vm_readv(1, None, 0, None, 0, 0)",
    "keyctl": "libc.syscall(250, 0, -3, 1)",
    "add_key": "libc.syscall(248, b'user', b'k', b'v', 1, -2)",
    "bpf": "libc.syscall(321, 0, ctypes.create_string_buffer(128), 128)",
    "perf": "libc.syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "userfaultfd": "libc.syscall(323, 1)",
    "io_uring": "libc.syscall(425, 8, ctypes.create_string_buffer(200))",
    "handles": "libc.syscall(304, -100, ctypes.create_string_buffer(64), 0)",
    "setuid": "libc.setuid(0)",
    "setgid": "libc.setgid(0)",
    "sethostname": "libc.sethostname(b'x', 1)",
    "TIOCSTI": "libc.ioctl(0, 0x5412, b'x')",
    "vsock": "libc.socket(40, 1, 0)",
    "packet": "libc.socket(17, 3, 0)",
    "alg": "libc.socket(38, 5, 0)",
    "device": "libc.mknod(b'/tmp/device', 0o20666, 0x101)",
}


def test_E1_system_calls_that_lead_out(session: Session) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    lines = ["import ctypes, os", "libc = ctypes.CDLL(None)"]
    lines += [f"print({name!r}, {call})" for name, call in CALLS.items()]
    result = session.code("\n".join(lines))
    answers = dict(line.rsplit(" ", 1) for line in result.stdout.splitlines())
    assert answers == dict.fromkeys(CALLS, "-1"), result


def test_E1_set_user_id_programs_give_nothing(session: Session) -> None:
    """As in a container without them: not by the mount, and not by no_new_privs either."""
    assert "nosuid" in session.shell("grep ' /usr ' /proc/mounts").stdout
    for program in ("su", "mount", "passwd", "chsh"):
        found = session.shell(f"command -v {program}").stdout.strip()
        if found:
            assert "0" not in session.shell(f"{found} -c 'id -u' </dev/null 2>&1").stdout.split()


_TRUNCATE = """
import os
for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
    try: os.open({!r}, mode | os.O_TRUNC); print("opened")
    except OSError: pass
"""


def test_E2_read_only_but_for_four_folders(session: Session) -> None:
    for path in (
        "/x",
        "/usr/x",
        "/etc/x",
        "/etc/passwd",
        "/dev/x",
        "/sys/x",
        "/.stockade/x",
        "/sys/fs/cgroup/memory.events",
        "/proc/sys/kernel/core_pattern",
        "/var/x",
        "/proc/sysrq-trigger",
        "/home/x",
    ):
        assert not session.shell(f": > {path}").success, path
    for folder in ("/workspace", "/tmp", "/var/tmp", "/dev/shm"):
        assert session.shell(f"cd {folder} && : > x && rm x").success, folder
    assert session.shell(": > /dev/null").success
    for program in ("/.stockade/supervisor", "/usr/bin/env"):
        assert not session.code(_TRUNCATE.format(program)).stdout, program


def test_E2_the_number_of_files_is_bounded(bubblewrap: str) -> None:
    """Empty files take the kernel's memory and none of the folder's size."""
    with stockade.open(bubblewrap, disk_mb=8) as session:
        for folder in ("/workspace", "/tmp", "/dev/shm"):
            code = (
                "import os\nn = 0\ntry:\n"
                "  while n < 5000: os.close(os.open(f'many-{n}', 65)); n += 1\n"
                "except OSError: pass\nprint(n)\n"
            )
            count = int(session.code(code, working_dir=folder).stdout)
            assert 500 < count < (4100 if folder == "/dev/shm" else 1100), folder
            session.shell("rm -f many-*", working_dir=folder)
        assert session.shell("echo ok > f && cat f").stdout == "ok\n"


@pytest.mark.parametrize(("option", "size"), [("", 64), ("?shm_mb=4", 4)])
def test_E2_shared_memory_is_bounded(bubblewrap: str, option: str, size: int) -> None:
    with stockade.open(f"{bubblewrap}{option}", memory_mb=256) as session:
        result = session.shell("head -c 90000000 /dev/zero > /dev/shm/x; wc -c < /dev/shm/x")
        assert int(result.stdout) == size << 20


def test_E2_var_tmp_shares_the_space_of_tmp(bubblewrap: str) -> None:
    with stockade.open(bubblewrap, disk_mb=16) as session:
        session.shell("head -c 9000000 /dev/zero > /tmp/x; head -c 9000000 /dev/zero > /var/tmp/y")
        kept = int(session.shell("cat /tmp/x /tmp/y | wc -c").stdout)
        assert 15 << 20 < kept <= 16 << 20


_TOGETHER = """
import multiprocessing, multiprocessing.shared_memory, socket
context = multiprocessing.get_context("fork")
with context.Lock(): print("lock")
shared = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
child = context.Process(target=lambda: shared.buf.__setitem__(0, 7))
child.start(); child.join()
print(shared.buf[0]); shared.unlink()
server = socket.create_server(("localhost", 0))
print(socket.create_connection(("localhost", server.getsockname()[1]), 2).getpeername()[0])
"""


def test_locks_shared_memory_and_localhost_work_by_default(wall: str) -> None:
    with stockade.open(wall) as session:
        result = session.code(_TOGETHER)
        assert result.stdout.split() == ["lock", "7", "127.0.0.1"], result


def test_what_programs_look_for_in_etc(session: Session) -> None:
    line = "whoami; getent group $(id -g); getent hosts localhost; getent passwd root nobody"
    seen = session.shell(line).stdout
    for word in ("sandbox\n", "sandbox:x:1000:", "localhost", "root:x:0:0", "nobody:x:65534"):
        assert word in seen, seen
    for path in (
        "os-release",
        "services",
        "protocols",
        "localtime",
        "ld.so.cache",
        "alternatives",
        "ssl/certs",
        "nsswitch.conf",
        "hosts",
        "mtab",
        *map(os.path.basename, Path("/etc").glob("java-*")),
    ):
        if os.path.exists(f"/etc/{path}"):
            assert session.shell(f"cat /etc/{path} >/dev/null || ls /etc/{path}/").success, path
    for path in ("shadow", "ssl/private", "ssh", "machine-id", "fstab"):
        assert not session.shell(f"ls -d /etc/{path}").success, path
        assert session.shell("cat /etc/resolv.conf /etc/hostname").stdout == "sandbox\n"


def test_E3_loopback_is_its_own(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = (
            "import socket\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 2); print('in')\n"
            "except OSError: print('refused')\n"
            "server = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(server.getsockname(), 2); print('own')\n"
        )
        assert session.code(code).stdout == "refused\nown\n"
    assert session.shell("cat /proc/net/route | wc -l").stdout.strip() == "1"


@pytest.mark.parametrize("place", ["/tmp/stockade-test-{pid}", "\0stockade-test-{pid}"])
def test_E3_a_unix_socket_of_the_host(session: Session, place: str) -> None:
    name = place.format(pid=os.getpid())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        try:
            listener.listen()
            result = session.code(
                "import socket\ntry: socket.socket(socket.AF_UNIX).connect("
                f"{name!r}); print('in')\nexcept OSError: print('refused')\n"
            )
        finally:
            if name.startswith("/"):
                os.unlink(name)
    assert result.stdout == "refused\n"


def test_E7_nothing_of_the_host(session: Session, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    tmp_path.chmod(0o777)
    secret.chmod(0o666)
    for path in (
        "/etc/shadow",
        "/root",
        str(secret),
        "/var/log",
        "/run",
        "/home",
        "/boot",
        "/sys/kernel",
        "/sys/class",
        os.path.expanduser("~"),
        "/proc/keys",
        "/proc/kcore",
        "/proc/timer_list",
    ):
        result = session.shell(f"cat {path} 2>/dev/null; ls {path}/ 2>/dev/null")
        assert not result.stdout, (path, result.stdout)
    result = session.shell(f"ln -s {secret} link; cat link; ln {secret} hard; cat hard")
    assert "hunter2" not in result.stdout
    assert session.shell(
        "hostname 2>/dev/null || cat /proc/sys/kernel/hostname"
    ).stdout.strip() == ("sandbox")
    names = {line.split("=")[0] for line in session.run(["env"]).stdout.splitlines()}
    assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "PWD", "OLDPWD", "_", "SHLVL"}


def test_E7_no_process_of_the_host_and_none_of_bwraps_secrets(session: Session) -> None:
    held = session.start(["sleep", "30"])
    time.sleep(0.2)
    numbers = [int(name) for name in session.shell("ls /proc").stdout.split() if name.isdigit()]
    assert len(numbers) < 25 and max(numbers) < 300
    assert session.shell(f"kill -0 {os.getpid()}").exit_code != 0
    lines = session.shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'").stdout
    held.cancel()
    # What is shown where is passed to bwrap apart from its command line.
    assert "--ro-bind" not in lines and os.getcwd() not in lines
    for name in ("/proc/1/root/etc/shadow", "/proc/1/cwd/etc/shadow"):
        assert "$" not in session.shell(f"cat {name}").stdout
    kept = session.shell("for p in /proc/[0-9]*; do ls -l $p/fd; done 2>/dev/null").stdout
    targets = {line.rpartition("-> ")[2] for line in kept.splitlines() if "->" in line}
    allowed = ("pipe:", "/dev/null", "/proc/", "/memfd:stockade")
    assert not {target for target in targets if not target.startswith(allowed)}, targets


_SPY = """
import os, sys, time
seen, until = set(), time.time() + 2.5
def look(act, *kept):
    try: seen.add((*kept, act()))
    except OSError: pass
def data(path):
    with open(path, "rb") as file: return file.read(4096)
print("spying", flush=True)
while time.time() < until:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid(): continue
        at = f"/proc/{pid}/"
        for name in ("cmdline", "environ", "maps"): look(lambda: data(at + name), name)
        for name in ("exe", "cwd", "root"): look(lambda: os.readlink(at + name).encode(), name)
        try: held = os.listdir(at + "fd")
        except OSError: continue
        for name in held: look(lambda: os.readlink(at + "fd/" + name).encode(), "fd")
for name, found in sorted(seen): print(name, found)
"""


def test_E7_what_starts_shows_nothing_of_where_it_comes_from(session: Session) -> None:
    """Watched from inside while executions start."""
    spy = session.stream(code=_SPY, language="python", timeout=30)
    assert spy.take() is not None
    for _ in range(4):
        started = [session.start(["sleep", "0.2"]) for _ in range(8)]
        assert all(execution.result(20).success for execution in started)
    lines = "".join(chunk.text for chunk in spy).splitlines()
    assert spy.result().success
    # All that shows of another execution where the kernel holds them apart (D16).
    assert any(line.startswith("cmdline b'sleep\\x000.2") for line in lines)
    prefix = stockade_bubblewrap.__file__.partition("/plugins/")[0]
    for word in (prefix, sys.executable, sys.base_prefix + "/bin"):
        if not word.startswith("/usr"):
            assert not [line[:200] for line in lines if word in line]
    held = {line[5:-1] for line in lines if line.startswith("fd b")}
    assert not {name for name in held if name.startswith(("socket:", "anon_inode:[pidfd]"))}


def test_E8_two_sessions_share_nothing(bubblewrap: str) -> None:
    with stockade.open(bubblewrap) as one, stockade.open(bubblewrap) as two:
        one.shell("echo secret > /workspace/s; echo secret > /tmp/s")
        assert "secret" not in two.shell("cat /workspace/s /tmp/s; ls -R /workspace /tmp").stdout
        names = ("ipc", "mnt", "net", "pid", "user", "uts", "cgroup")
        look = "readlink " + " ".join(f"/proc/self/ns/{name}" for name in names)
        mine = [os.readlink(f"/proc/self/ns/{name}") for name in names]
        assert not (set(one.shell(look).stdout.split()) & {*two.shell(look).stdout.split(), *mine})
