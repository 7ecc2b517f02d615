"""Checks of E: isolation, as seen from inside."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time

import pytest

from stockade.capabilities import Feature
from stockade.config import Mount
from stockade.errors import ConfigError, SandboxLostError, StockadeError
from stockade.results import Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect


class Isolation(ConformanceBase):
    """What the code inside can see, reach and use up."""

    def _status(self, session: Session) -> dict[str, str]:
        text = session.run(["cat", "/proc/self/status"]).stdout
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def test_E1_no_capability_and_an_unprivileged_user(self) -> None:
        self.need(Feature.PROCESS_HARDENING)
        with self.session() as session:
            status = self._status(session)
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                held = status.get(name, "0")  # a kernel without ambient ones does not list them
                expect(int(held, 16) == 0, "E1", f"{name} empty", held)
            expect(status["Uid"].split()[0] != "0", "E1", "an unprivileged uid", status["Uid"])

    def test_E1_no_new_privs_and_a_filter(self) -> None:
        self.need(Feature.PROCESS_HARDENING)
        with self.session() as session:
            status = self._status(session)
            held = (status.get("NoNewPrivs"), status.get("Seccomp"))
            expect(held == ("1", "2"), "E1", "no_new_privs and a seccomp filter", held)

    def test_E2_read_only_but_for_two_folders(self) -> None:
        self.need(Feature.READ_ONLY_ROOT)
        with self.session() as session:
            for path in ("/x", "/usr/x", "/etc/x", "/bin/x", "/var/x", "/dev/x"):
                result = session.shell(f"echo x > {path}")
                expect(not result.success, "E2", f"no file at {path}", result)
            for path in (f"{session.provider.config.working_dir}/x", "/tmp/x"):
                expect(session.shell(f"echo x > {path}").success, "E2", f"a file at {path}", "none")

    def test_E2_filling_the_space_hurts_only_the_sandbox(self) -> None:
        self.need(Feature.DISK)
        with self.session(disk_mb=16) as session:
            for folder in (session.provider.config.working_dir, "/tmp"):
                line = f"for i in 1 2 3 4; do head -c 10000000 /dev/zero > {folder}/f$i; done"
                session.shell(f"{line}; sleep 0.5")
                kept = int(session.shell(f"cat {folder}/f? | wc -c").stdout)
                expect(kept <= 16 << 20, "E2", "at most 16 MiB", kept)
                session.shell(f"rm -f {folder}/f?")
            expect(session.shell("echo ok > f && cat f").stdout == "ok\n", "E2", "usable", "not")

    def test_E3_no_way_out(self) -> None:
        self.need(Feature.NETWORK_OFF)
        with socket.create_server(("0.0.0.0", 0)) as listener, self.session() as session:
            port = listener.getsockname()[1]
            self.need_python(session)
            code = (
                "import socket\n"
                f"for host in ('127.0.0.1', '{_own_address()}', '::1', 'localhost'):\n"
                f"    try: socket.create_connection((host, {port}), 2); print('in', host)\n"
                "    except OSError: pass\n"
                "try: print('dns', socket.getaddrinfo('example.org', 80))\n"
                "except OSError: pass\n"
            )
            result = session.code(code)
            expect(not result.stdout, "E3", "no connection, no name", result.stdout)

    def test_E3_no_unix_socket_of_the_host(self) -> None:
        self.need(Feature.NETWORK_OFF)
        folder = tempfile.mkdtemp(prefix="stockade-conformance-")
        os.chmod(folder, 0o777)
        names = (f"{folder}/s", f"\0{os.path.basename(folder)}")
        try:
            for name in names:
                with socket.socket(socket.AF_UNIX) as listener, self.session() as session:
                    listener.bind(name)
                    listener.listen()
                    self.need_python(session)
                    code = (
                        "import socket\n"
                        f"try: socket.socket(socket.AF_UNIX).connect({name!r}); print('in')\n"
                        "except OSError: pass\n"
                    )
                    result = session.code(code)
                    expect(not result.stdout, "E3", f"no way to {name!r}", result.stdout)
        finally:
            if os.path.exists(names[0]):
                os.unlink(names[0])
            os.rmdir(folder)

    def test_E4_the_process_limit_holds(self) -> None:
        self.need(Feature.PROCESSES)
        with self.session(max_processes=32) as session:
            # A shell that cannot fork ends with an error, after the last count it printed.
            line = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); echo $i; done"
            result = session.shell(line, timeout=20)
            count = int(result.stdout.split()[-1]) if result.stdout.split() else 0
            expect(count <= 32, "E4", "at most 32 processes", result)
            expect(session.run(["true"]).success, "E4", "a usable session", "failure")

    def test_E5_the_memory_limit_holds(self) -> None:
        self.need(Feature.MEMORY)
        with self.session(memory_mb=128) as session:
            line = "a=0123456789abcdef; while :; do a=$a$a; done"
            result = session.shell(line, timeout=40)
            expect(result.verdict is Verdict.OUT_OF_MEMORY, "E5", "out of memory", result)
            if self.one_kernel(session):
                return
            expect(session.run(["true"]).success, "E5", "a usable session", "failure")

    def test_E6_the_cpu_limit_holds(self) -> None:
        self.need(Feature.CPU)
        # Work done, not time told: a kernel inside counts what it was given as it likes.
        done = {limit: self._work(limit) for limit in (1.0, 0.25)}
        expect(done[0.25] < 0.6 * done[1.0], "E6", "a quarter of the cpu, a quarter of the work",
               done)  # fmt: skip

    def _work(self, limit: float) -> int:
        spin = "while :; do i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo; done"
        with self.session(cpu_limit=limit) as session:
            session.run(["true"])
            result = session.shell(f"({spin}) & {spin}", timeout=3.0)
            return result.stdout_total_bytes

    def test_E7_nothing_of_the_host_shows(self) -> None:
        self.need_isolation()
        os.environ["STOCKADE_CONFORMANCE_SECRET"] = "hunter2"
        try:
            with self.session() as session:
                names = session.run(["env"]).stdout
                expect("hunter2" not in names, "E7", "no variable of the host", names)
                for path in ("/var/run/docker.sock", "/run/docker.sock", os.path.abspath(__file__)):
                    result = session.shell(f"[ -w '{path}' ] && echo there")
                    expect(not result.stdout, "E7", f"no {path} to write to", result.stdout)
                shadow = session.shell("cat /etc/shadow").stdout
                expect("$" not in shadow, "E7", "no password hash", "one")
                listed = session.shell("ls /proc").stdout.split()
                mine = str(os.getpid())
                line = session.shell(f"cat /proc/{mine}/environ | tr '\\0' '\\n'").stdout
                expect("hunter2" not in line, "E7", "no process of the host", mine in listed)
        finally:
            del os.environ["STOCKADE_CONFORMANCE_SECRET"]

    def test_E8_two_sessions_share_nothing(self) -> None:
        self.need_isolation()
        with self.session() as one, self.session() as two:
            one.shell("echo secret > mine; echo secret > /tmp/mine")
            result = two.shell("cat mine /tmp/mine; ls -A . /tmp")
            expect("secret" not in result.stdout and "mine" not in result.stdout, "E8",
                   "no file of another session", result.stdout)  # fmt: skip
            running = one.start(["sleep", "30"])
            time.sleep(0.3)
            lines = two.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").stdout
            expect("sleep 30" not in lines, "E8", "no process of another session", lines)
            with contextlib.suppress(SandboxLostError):  # its own session may die of it
                two.shell("kill -9 -1")
            time.sleep(0.2)
            expect(not running.future.done(), "E8", "no signal to another session", "it ended")
            running.cancel()

    def test_E9_dangerous_mounts_are_refused(self) -> None:
        provider = self.make_provider()
        if not provider.wall.capabilities[Feature.MOUNTS]:
            config = provider.config.with_(mounts=(Mount("/srv", "/srv"),))
            self.refused("E9", lambda: provider.create_session("a", config), Feature.MOUNTS)
            return
        for source in ("/", "/etc", "/proc", "/home", os.path.expanduser("~"), "/var/run"):
            with pytest.raises((ConfigError, StockadeError)):
                provider.create_session("a", provider.config.with_(mounts=(Mount(source, "/m"),)))

    def test_E10_an_allow_list_is_refused_where_it_is_not_claimed(self) -> None:
        provider = self.make_provider()
        if provider.wall.capabilities[Feature.ALLOW_LIST]:
            pytest.skip("the wall's own tests reach real hosts")
        config = provider.config.with_(network_enabled=False, network_allow=("example.org",))
        self.refused("E10", lambda: provider.create_session("a", config), Feature.ALLOW_LIST)


def _own_address() -> str:
    """An address of this host other than loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
