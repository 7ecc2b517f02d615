"""The landlock wall as the code inside sees it; it is attacked here, the host watched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stockade
from core.toolkit.local.others import run_as_other
from plugins.landlock.processes import gone, marked
from stockade import SandboxLostError, Session, UnsupportedError, Verdict
from stockade.toolkit.local import LocalSandbox


def test_the_uid_inside(session: Session) -> None:
    result = session.shell("id -u; whoami; getent hosts localhost | head -1 | cut -d' ' -f1")
    assert result.stdout.split()[:2] == ["1000", "sandbox"], result.stderr
    sandbox = session._record.sandbox
    assert isinstance(sandbox, LocalSandbox)
    line = Path(f"/proc/{sandbox.init_pid}/status").read_text().partition("Uid:")[2]
    outside = {int(word) for word in line.splitlines()[0].split()}
    if os.geteuid() == 0:  # nobody that this machine has, and no other session's (A7)
        assert len(outside) == 1 and min(outside) >= 0x7000_0000
    else:
        assert outside == {os.geteuid()}


def test_the_user_is_chosen_as_it_is_seen_inside(landlock: str) -> None:
    with stockade.open(landlock, user="4711:4712") as session:
        assert session.shell("id -u; id -g; whoami").stdout.split() == ["4711", "4712", "sandbox"]
        assert session.shell("echo x > f && stat -c %u:%g f").stdout == "4711:4712\n"


def test_E1_no_capability_no_new_privs_a_filter(session: Session) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in session.run(["cat", "/proc/self/status"]).stdout.splitlines()
        if ":\t" in line
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_E4_a_fork_bomb_of_500(session: Session) -> None:
    result = session.code(
        "import os, time\nn = 0\ntry:\n"
        "  while n < 500:\n"
        "    if os.fork() == 0: time.sleep(20); os._exit(0)\n"
        "    n += 1\n"
        "except OSError as e: print(n, e.errno)\n"
    )
    count, number = map(int, result.stdout.split())
    assert count < 256 and number == 11
    assert session.run(["true"]).success


def test_D6_a_fork_bomb_ends_at_its_timeout(session: Session) -> None:
    mark = f"37{os.getpid()}"
    line = f"f() {{ setsid sleep {mark} & f & f & }}; f & sleep {mark}"
    assert session.shell(line, timeout=1).verdict is Verdict.TIMED_OUT
    assert gone(f"sleep {mark}")
    assert session.run(["true"]).success


@pytest.fixture(params=["auto", "watch"])
def limited(landlock: str, request: pytest.FixtureRequest) -> Iterator[Session]:
    """With limits by cgroup, where one can be made, and watched."""
    with stockade.open(f"{landlock}?limits={request.param}") as opened:
        yield opened


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(1 << 30)",
        "l = []\nwhile True: l.append(bytearray(10 << 20))",
        "import mmap\nm = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE)\n"
        "for i in range(0, 1 << 30, 4096): m[i] = 1",
    ],
    ids=["at once", "bit by bit", "mapped"],
)
def test_E5_twice_the_memory(limited: Session, code: str) -> None:
    result = limited.code(code, timeout=30)
    assert result.verdict is Verdict.OUT_OF_MEMORY, result
    assert result.kill_reason == "out of memory" and limited.run(["true"]).success


def test_E5_children_count_with_their_parent(limited: Session) -> None:
    result = limited.code(
        "import os, subprocess, sys, time\n"
        "print(subprocess.call([sys.executable, '-c', 'x = bytearray(1 << 30)']))\n"
        "for i in range(8):\n"
        "  if os.fork() == 0: x = bytearray(128 << 20); time.sleep(3); os._exit(0)\n"
        "print(sum(os.wait()[1] == 9 for i in range(8)) > 3)\n",
        timeout=30,
    )
    assert result.stdout == "-9\nTrue\n", result


def test_E5_memory_that_is_nobodys(landlock: str) -> None:
    """Where memory is watched there is none: it would be no process's."""
    for made in ("os.memfd_create('x')", "mmap.mmap(-1, 4096)"):
        code = f"import mmap, os\ntry: {made}\nexcept OSError: print('refused')"
        with stockade.open(f"{landlock}?limits=watch") as session:
            assert session.code(code).stdout == "refused\n"
    with stockade.open(f"{landlock}?limits=cgroup") as session:
        result = session.code(
            "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1",
            timeout=30,
        )
        assert result.verdict is Verdict.OUT_OF_MEMORY, result


def test_E5_mapped_files_count(landlock: str) -> None:
    with stockade.open(landlock, memory_mb=128) as session:
        result = session.code(
            "import mmap\nf = open('big', 'w+b'); f.truncate(64 << 20)\n"
            "ms = [mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE) for _ in range(8)]\n"
            "for m in ms:\n  for i in range(0, 64 << 20, 4096): m[i] = 1\n",
            timeout=30,
        )
        assert result.verdict is Verdict.OUT_OF_MEMORY, result


def test_D3_a_kill_of_its_own_is_not_out_of_memory(session: Session) -> None:
    assert session.shell("kill -9 $$").verdict is Verdict.SIGNALLED
    assert session.shell("kill -TERM $$").signal == 15
    for code in (137, 143, 251):
        result = session.shell(f"exit {code}")
        assert (result.verdict, result.exit_code) == (Verdict.EXITED, code)


def test_D5_an_endless_print(session: Session) -> None:
    result = session.run(["yes"], timeout=1)
    assert result.verdict is Verdict.TIMED_OUT and result.stdout_truncated
    assert len(result.stdout_bytes) == 1 << 20 < result.stdout_total_bytes
    ended = session.run(["yes"], output_policy="end", timeout=20)
    assert ended.verdict is Verdict.OUTPUT_LIMIT


def test_D6_the_whole_tree(session: Session) -> None:
    mark = f"30{os.getpid()}"
    line = f"sleep {mark} & setsid sleep {mark} & sleep {mark}"
    began = time.monotonic()
    result = session.shell(line, timeout=1)
    assert result.verdict is Verdict.TIMED_OUT and time.monotonic() - began < 2
    assert gone(f"sleep {mark}", 1)


def test_D6_daemons_and_the_deaf(session: Session) -> None:
    mark = f"31{os.getpid()}"
    line = f"trap '' TERM INT HUP; (setsid sh -c '(sleep {mark} &) ; sleep {mark}' &); sleep {mark}"
    session.shell(line, timeout=0.5)
    assert gone(f"sleep {mark}", 1)


def test_D7_what_is_left_behind_lives_until_the_session_ends(landlock: str) -> None:
    mark = f"32{os.getpid()}"
    with stockade.open(landlock) as session:
        began = time.monotonic()
        result = session.shell(f"setsid sleep {mark} & sleep {mark} & echo done")
        assert result.stdout == "done\n" and time.monotonic() - began < 5
        session.run(["true"], timeout=10)
        assert len(marked(f"sleep {mark}")) == 2
        # Another execution sees them and can end them: one tree a session.
        assert session.shell(f"pkill -f 'sleep {mark}'").success or shutil.which("pkill") is None
        session.shell(f"sleep {mark} & sleep 0.1")
    assert gone(f"sleep {mark}")


@pytest.mark.parametrize(
    "code",
    [
        "libc.unshare(0x10000000)",
        "libc.mount(b'x', b'/tmp', b'tmpfs', 0, None)",
        "libc.syscall(425, 8, ctypes.create_string_buffer(200))",  # io_uring_setup
        "libc.ptrace(16, 1, 0, 0)",
        "libc.syscall(248, b'user', b'k', b'v', 1, -2)",  # add_key
        "libc.setuid(0) or libc.setgid(0)",
        "libc.chroot(b'/')",
    ],
)
def test_E1_system_calls_that_lead_out(session: Session, code: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    result = session.code(f"import ctypes\nlibc = ctypes.CDLL(None)\nprint({code})")
    assert result.stdout.strip() == "-1" or not result.success


def test_E2_read_only_but_for_two_folders(session: Session) -> None:
    for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/var/x", "/run/x", "/proc/sys/kernel/x"):
        assert not session.shell(f": > {path}").success, path
    places = ("/workspace/x", "/tmp/x", "/var/tmp/x", "/dev/shm/x")
    assert session.shell("".join(f": > {path}; cat {path} || exit 1; " for path in places)).success


def test_E2_filling_the_folders_hurts_only_the_sandbox(landlock: str) -> None:
    with stockade.open(landlock, disk_mb=8) as session:
        for folder in ("/workspace", "/tmp"):
            fill = f"for i in 1 2 3; do head -c 6000000 /dev/zero > {folder}/$i; done; sleep 0.5"
            session.shell(fill)
            kept = session.shell(f"cat {folder}/* | wc -c")
            assert int(kept.stdout) <= 8 * 2**20
            session.shell(f"rm -f {folder}/*")
        assert session.shell("echo ok > /workspace/f && cat /workspace/f").stdout == "ok\n"


@pytest.mark.parametrize("limit", [0.25, 0.5])
def test_E6_the_cpu_limit_holds_for_the_whole_tree(landlock: str, limit: float) -> None:
    with stockade.open(landlock, cpu_limit=limit) as session:
        line = "for i in 1 2 3; do timeout 3 setsid sh -c 'while :; do :; done' & done; wait; times"
        began = time.monotonic()
        result = session.shell(line, timeout=30)
        elapsed = time.monotonic() - began
        last = result.stdout.splitlines()[-1]
        spent = sum(
            float(m) * 60 + float(s.rstrip("s"))
            for m, s in (part.split("m") for part in last.split())
        )
        assert spent / elapsed < limit * 1.4, (spent, elapsed)


def test_E8_two_sessions_share_nothing(session: Session, landlock: str) -> None:
    with stockade.open(landlock) as other:
        session.shell("echo secret > /workspace/s; echo secret > /tmp/s")
        assert "secret" not in other.shell("cat /workspace/s /tmp/s; ls -R /workspace /tmp").stdout
        execution = session.start(["sleep", "21.375"])
        time.sleep(0.2)
        assert "21.375" not in other.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
        with contextlib.suppress(SandboxLostError):  # its own session may die of it
            other.shell("kill -9 -1")
        time.sleep(0.1)
        assert not execution.future.done()
        execution.cancel()


def test_files_last_from_execution_to_execution(session: Session) -> None:
    session.shell("echo kept > file")
    assert session.shell("cat file").stdout == "kept\n"


def test_D9_working_folders(session: Session) -> None:
    assert session.run(["pwd"]).stdout == "/workspace\n"
    assert session.run(["pwd"], working_dir="/tmp").stdout == "/tmp\n"
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        session.run(["pwd"], working_dir="/nowhere")


def test_D2_missing_and_not_executable(session: Session) -> None:
    for missing in ("no-such-program", "/no-such/program", "/workspace/none"):
        assert session.run([missing]).exit_code == 127, missing
    assert session.run(["/etc/ld.so.cache"]).exit_code == 126


def test_D10_a_script_is_in_no_command_line(session: Session) -> None:
    mark = f"mark{os.getpid()}x"
    execution = session.start(shell=f": {mark}; sleep 5")
    time.sleep(0.3)
    found = [line for line in marked(mark) if "pytest" not in line]
    execution.cancel()
    assert not found


_OWNER = """
import sys, time, stockade
session = stockade.open("landlock")
session.start(shell=f"sleep {sys.argv[1]} & setsid sleep {sys.argv[1]} & sleep {sys.argv[1]}")
time.sleep(0.5)
print("up", flush=True)
time.sleep(60)
"""


def test_C9_killing_the_owner_leaves_nothing(landlock: str) -> None:
    mark = f"33{os.getpid()}"
    before = set(os.listdir("/dev/shm")) | set(os.listdir("/tmp"))
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, mark], stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
    assert marked(f"sleep {mark}")
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert gone(f"sleep {mark}")
    left = (set(os.listdir("/dev/shm")) | set(os.listdir("/tmp"))) - before
    assert not {name for name in left if name.startswith((".stockade-", "stockade-landlock-"))}


def test_D14_killing_the_keeper_loses_the_session_at_once(session: Session) -> None:
    mark = f"34{os.getpid()}"
    execution = session.start(shell=f"echo so far; sleep {mark}")
    time.sleep(0.5)
    sandbox = session._record.sandbox
    assert isinstance(sandbox, LocalSandbox)
    os.kill(sandbox.keeper.pid, signal.SIGKILL)
    with pytest.raises(SandboxLostError) as caught:
        execution.result(5)
    assert caught.value.partial is not None and caught.value.partial.stdout == "so far\n"
    session.close()
    assert gone(f"sleep {mark}")


def test_C11_the_lifetime_holds(landlock: str) -> None:
    mark = f"35{os.getpid()}"
    with stockade.open(landlock, lifetime_seconds=1.0) as session:
        result = session.run(["sleep", mark])
        assert result.verdict is Verdict.CANCELLED
    assert gone(f"sleep {mark}")


def test_D11_twenty_at_once(session: Session) -> None:
    results: dict[int, str] = {}

    def work(number: int) -> None:
        line = f"for i in 1 2 3; do echo {number}; done; sleep 0.1; echo {number}"
        results[number] = session.shell(line).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: f"{number}\n" * 4 for number in range(20)}


def test_what_it_cannot_hold_is_refused(landlock: str) -> None:
    with pytest.raises(UnsupportedError, match="read_only_fs"):
        stockade.open(landlock, read_only_fs=False)


_AS_NOBODY = """
import os, stockade
os.setgroups([]); os.setgid(4711); os.setuid(4711); os.environ["HOME"] = "/"
with stockade.open("landlock") as s:
    print(s.shell("id -u; echo x > f; cat f; cat /etc/shadow; echo $?").stdout.split())
    print(s.code("x = bytearray(1 << 30)").verdict)
    print(s.shell("cat /proc/sys/user/max_inotify_instances").stdout.strip())
"""


def test_an_ordinary_user_without_an_account_has_the_same_wall(landlock: str) -> None:
    done = run_as_other(_AS_NOBODY)
    said, verdict, watchers = done.stdout.splitlines()
    assert (said, verdict) == ("['1000', 'x', '1']", "out of memory"), done.stderr
    # A quarter of the user's, so that one session cannot use it up for the others (E8).
    most = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert int(watchers) == most // 4
