"""Checks of E, first part: privilege, sight, network (E1, E3, E7, E8)."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from stockade.capabilities import Feature
from stockade.capabilities import Isolation as Between
from stockade.errors import SandboxLostError
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.checks.folders import open_folder
from stockade.testing.checks.reaching import CONNECT, own_address
from stockade.testing.programs import unique

#: Reaches for a host's TCP port with whatever programs there are: one may crash, or lack a part.
_REACH = """
found=
for p in wget curl nc; do
  command -v $p >/dev/null || continue
  found=$p
  case $p in
    wget) case $(wget --help 2>&1) in *--tries*) once='-t 1';; *) once=;; esac
      wget -q -T 3 $once -O - "http://$1:$2/";;
    curl) curl -s -m 3 "http://$1:$2/";;
    nc) printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 "$1" "$2";;
  esac
done 2>/dev/null
[ "$found" ] || exit 90
exit 0
"""

#: Prints what sockets can be made beside those of a family that a network namespace holds.
_FAMILIES = """
try: import socket
except ImportError: raise SystemExit
def made(*words):
    try: socket.socket(*words).close()
    except OSError: return False
    return True
for family in range(1, 64):
    protocols = range(32) if family == {netlink} else (0,)
    for protocol in protocols:
        held = protocol in {held} if family == {netlink} else family in {families}
        if not held and any(made(family, kind, protocol) for kind in (1, 2, 3, 5)):
            print(family, protocol)
"""
_NETLINK = 16
#: AF_UNIX, AF_INET, AF_INET6, AF_PACKET, AF_CAN, AF_TIPC
_IN_A_NAMESPACE = (1, 2, 10, 17, 29, 30)
#: NETLINK_ROUTE, _SOCK_DIAG, _XFRM, _FIB_LOOKUP, _NETFILTER
_NETLINK_IN_A_NAMESPACE = (0, 4, 6, 10, 12)
_AF_VSOCK = 40  #: leads out of a virtual machine too

#: Attaches a program of one instruction to sockets in each way that needs no capability, and
#: prints which of them the kernel took. Bytes lie behind their object's head. The options are
#: SO_ATTACH_FILTER and SO_ATTACH_REUSEPORT_CBPF.
_ATTACH = """
import socket, struct
code = struct.pack("=HBBI", 6, 0, 0, 0)
program = struct.pack("HP", 1, id(code) + bytes.__basicsize__ - 1)
for name in (26, 51):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
            one.setsockopt(socket.SOL_SOCKET, name, program)
        except OSError: continue
        print("option", name)
"""

_LOCALHOST = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(("localhost", server.getsockname()[1]), 5).close()
print("reached")
"""

_LOOK = """
import os
print(dict(os.environ))
for path in {paths!r}:
    try: print(open(path, "rb").read())
    except (OSError, NotImplementedError): pass
"""

_LEAVE = """
for path in {paths!r}:
    try: open(path, "w").write("hunter2")
    except (OSError, NotImplementedError): pass
"""

_CLEAR = """
import os
for path in {paths!r}:
    try: os.remove(path)
    except (OSError, NotImplementedError): pass
"""

#: Reserves all the memory for pipes that one user of a kernel may have, for a minute.
_TAKE_PIPES = """
import fcntl, os, time
kept = []
def take():
    try: kept.append(os.pipe())
    except OSError: return False
    end = kept[-1][1]
    try: fcntl.fcntl(end, {set_size}, 1 << 20)
    except OSError: pass
    if fcntl.fcntl(end, {get_size}) >= {usual}: return True
    for one in kept.pop(): os.close(one)
    return False
while len(kept) < 256 and take(): pass
print(len(kept), flush=True)
while True:  # what another process of this user gives back is taken as well
    take() or time.sleep(0.001)
"""
_ONE_PIPE = """
import os
try: import fcntl
except ImportError: raise SystemExit(print('none'))
print(fcntl.fcntl(os.pipe()[1], {get_size}))
"""
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
#: What a kernel gives a pipe whose user has not had its share.
_PIPE_BYTES = 65536


class Isolation(ConformanceBase):
    """What the code inside can see and reach."""

    def _status(self, session: Session) -> dict[str, str]:
        text = session.shell("cat /proc/self/status").stdout
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def test_E1_no_capability_and_an_unprivileged_user(self) -> None:
        self.need(Feature.PROCESS_HARDENING, Feature.SHELL)
        with self.shared() as session:
            status = self._status(session)
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                held = status.get(name, "0")  # a kernel without ambient ones does not list them
                expect(int(held, 16) == 0, "E1", f"{name} empty", held)
            expect(status["Uid"].split()[0] != "0", "E1", "an unprivileged uid", status["Uid"])

    def test_E1_no_new_privs_and_a_filter(self) -> None:
        self.need(Feature.PROCESS_HARDENING, Feature.SHELL)
        with self.shared() as session:
            status = self._status(session)
            held = (status.get("NoNewPrivs"), status.get("Seccomp"))
            expect(held == ("1", "2"), "E1", "no_new_privs and a seccomp filter", held)

    def test_E3_no_way_out(self) -> None:
        self.need(Feature.NETWORK_OFF)
        with socket.create_server(("0.0.0.0", 0)) as listener, self.shared() as session:
            port = listener.getsockname()[1]
            self.need_python(session)
            hosts = ("127.0.0.1", own_address(), "::1", "localhost")
            result = session.code(CONNECT.format(hosts=hosts, port=port), timeout=self.scaled(40))
            expect(not result.stdout, "E3", "no connection, no name", result.stdout)

    def test_E3_no_way_out_with_the_programs_there_are(self) -> None:
        self.need(Feature.NETWORK_OFF, Feature.SHELL)
        with socket.create_server(("0.0.0.0", 0)) as listener, self.shared() as session:
            port = listener.getsockname()[1]
            for host in ("127.0.0.1", own_address()):
                line = f"set -- {host} {port}\n{_REACH}"
                result = session.shell(line, timeout=self.scaled(20))
                if result.exit_code == 90:
                    pytest.skip("neither wget nor curl nor nc in this sandbox")
                listener.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    listener.accept()[0].close()
                    expect(False, "E3", "no connection to the host", f"one to {host}")

    def test_E3_localhost_is_the_name_of_loopback(self) -> None:
        self.need(Feature.NETWORK_OFF, Feature.LOOPBACK)
        with self.shared() as session:
            self.need_python(session)
            result = session.code(_LOCALHOST, timeout=self.scaled(20))
            expect(result.stdout == "reached\n", "E3", "a connection to localhost", result)

    def test_E3_no_unix_socket_of_the_host(self) -> None:
        self.need(Feature.NETWORK_OFF)
        with self.shared() as session:
            self._reaches_no_unix_socket(session)

    def test_E3_a_network_brings_no_unix_socket_along(self) -> None:
        """Abstract ones belong to a network; where that is the host's, so do its services'."""
        self.need_a_wall()
        self.need(Feature.NETWORK)
        with self.session(network_enabled=True) as session:
            self._reaches_no_unix_socket(session)

    def _reaches_no_unix_socket(self, session: Session) -> None:
        self.need_python(session)
        with open_folder() as folder:
            for name in (f"{folder}/s", f"\0{folder.name}"):
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(name)
                    listener.listen()
                    if not name.startswith("\0"):
                        os.chmod(name, 0o777)
                    code = (
                        "import socket\n"
                        f"try: socket.socket(socket.AF_UNIX).connect({name!r}); print('in')\n"
                        "except OSError: pass\n"
                    )
                    result = session.code(code, timeout=self.scaled(20))
                    expect(not result.stdout, "E3", f"no way to {name!r}", result.stdout)

    def test_E3_no_family_of_sockets_outside_of_a_namespace(self) -> None:
        self.need(Feature.NETWORK_OFF)
        with self.shared() as session:
            self.need_python(session)
            code = _FAMILIES.format(
                netlink=_NETLINK, held=_NETLINK_IN_A_NAMESPACE, families=_IN_A_NAMESPACE
            )
            result = session.code(code, timeout=self.scaled(20))
            expect(result.success, "E3", "an answer for each family", result)
            made = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
            if session.provider.wall.isolation in (Between.KERNEL, Between.VM):
                # Of a kernel of its own the others reach no further than itself.
                made = [pair for pair in made if pair[0] == _AF_VSOCK]
            expect(not made, "E3", "no socket (family, protocol) that is in no namespace", made)

    def test_E7_nothing_of_the_host_shows(self) -> None:
        self.need_a_wall()
        self.need(Feature.SHELL)
        os.environ["STOCKADE_CONFORMANCE_SECRET"] = "hunter2"
        try:
            with open_folder() as folder, self.session() as session:
                names = session.shell("env").stdout
                expect("hunter2" not in names, "E7", "no variable of the host", names)
                for path in ("/var/run/docker.sock", "/run/docker.sock", os.path.abspath(__file__)):
                    result = session.shell(f"[ -w '{path}' ] && echo there")
                    expect(not result.stdout, "E7", f"no {path} to write to", result.stdout)
                shadow = session.shell("cat /etc/shadow").stdout
                expect("$" not in shadow, "E7", "no password hash", "one")
                mine = str(os.getpid())
                line = session.shell(f"cat /proc/{mine}/environ | tr '\\0' '\\n'").stdout
                expect("hunter2" not in line, "E7", "no process of the host", mine)
                marker = folder / "marker"
                marker.write_text("hunter2")
                marker.chmod(0o644)
                seen = session.shell(f"cat {marker}").stdout
                expect("hunter2" not in seen, "E7", "no file of the host's temporary folder", seen)
        finally:
            del os.environ["STOCKADE_CONFORMANCE_SECRET"]

    def test_E7_code_sees_nothing_of_the_host(self) -> None:
        self.need_a_wall()
        self.need(Feature.CODE)
        os.environ["STOCKADE_CONFORMANCE_SECRET"] = "hunter2"
        try:
            with self.shared() as session:
                self.need_python(session)
            with open_folder() as folder, self.session() as session:
                marker = folder / "marker"
                marker.write_text("hunter2")
                marker.chmod(0o644)
                paths = (str(marker), f"/proc/{os.getpid()}/environ", "/proc/1/environ")
                result = session.code(_LOOK.format(paths=paths), timeout=self.scaled(30))
                expect("hunter2" not in result.stdout, "E7", "nothing of the host", result.stdout)
        finally:
            del os.environ["STOCKADE_CONFORMANCE_SECRET"]

    def test_E8_code_leaves_nothing_for_another_session(self) -> None:
        self.need_a_wall()
        self.need(Feature.CODE)
        name = unique("mine")
        paths = (name, f"/tmp/{name}", f"/dev/shm/{name}", f"/var/tmp/{name}")
        with self.shared() as one:
            self.need_python(one)
        with self.shared() as one, self.session() as two:
            one.code(_LEAVE.format(paths=paths), timeout=self.scaled(30))
            seen = two.code(_LOOK.format(paths=paths), timeout=self.scaled(30)).stdout
            one.code(_CLEAR.format(paths=paths), timeout=self.scaled(30))
            expect("hunter2" not in seen, "E8", "no file of another session", seen)

    def test_E8_two_sessions_share_nothing(self) -> None:
        self.need_a_wall()
        self.need(Feature.SHELL)
        mine = unique("mine")
        with self.shared() as one, self.session() as two:
            one.shell(f"echo secret > {mine}; echo secret > /tmp/{mine}")
            result = two.shell(f"cat {mine} /tmp/{mine}; ls -A . /tmp")
            one.shell(f"rm -f {mine} /tmp/{mine}")
            expect(
                "secret" not in result.stdout and mine not in result.stdout,
                "E8",
                "no file of another session",
                result.stdout,
            )
            running = one.stream(shell="echo $$; sleep 33.125", timeout=self.scaled(60))
            first = running.take()
            assert first is not None
            lines = two.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").stdout
            expect("sleep 33.125" not in lines, "E8", "no process of another session", lines)
            # One process alone: on a wall that is none, "all" would be the whole machine.
            with contextlib.suppress(SandboxLostError):  # it may hit something of its own
                two.shell(f"kill -9 {int(first.data)}")
            self.wait(0.2)
            expect(not running.future.done(), "E8", "no signal to another session", "it ended")
            running.cancel()
            running.result(self.scaled(20))

    def test_E8_no_quota_is_used_up_for_another_session(self) -> None:
        self.need_a_wall()
        self.need(Feature.CODE)
        if os.geteuid() != 0:
            pytest.skip("an ordinary user of the host is one for all of its sessions")
        with self.shared() as one, self.session() as two:
            self.need_python(one)
            usual = self._pipe_bytes(two)
            expect(usual >= _PIPE_BYTES, "E8", f"a pipe of {_PIPE_BYTES} bytes", usual)
            code = _TAKE_PIPES.format(
                set_size=_F_SETPIPE_SZ, get_size=_F_GETPIPE_SZ, usual=_PIPE_BYTES
            )
            taking = one.stream(code=code, timeout=self.scaled(60))
            taking.take()
            left = self._pipe_bytes(two)
            taking.cancel()
            taking.result(self.scaled(20))
            expect(left == usual, "E8", f"a pipe of {usual} bytes still", left)

    def test_E8_no_room_for_compiled_programs_is_used_up(self) -> None:
        """The machine has it once, and a wall needs it for every session's own filter."""
        self.need_a_wall()
        self.need(Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
            if session.provider.wall.isolation in (Between.KERNEL, Between.VM):
                pytest.skip("the sandbox has a kernel of its own, and with it the room")
            result = session.code(_ATTACH, timeout=self.scaled(30))
            expect(result.success, "E8", "what became of each program", result)
            expect(not result.stdout, "E8", "no program attached to a socket", result.stdout)

    def _pipe_bytes(self, session: Session) -> int:
        code = _ONE_PIPE.format(get_size=_F_GETPIPE_SZ)
        result = session.code(code, timeout=self.scaled(30))
        if result.stdout == "none\n":
            pytest.skip("the Python in this sandbox knows no sizes of pipes")
        expect(result.success, "E8", "the size of a new pipe", result)
        return int(result.stdout)
