"""What of the host the code inside may reach: nothing (E3, E7)."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

import stockade
from stockade import Session


def test_E7_nothing_of_the_host(session: Session, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    tmp_path.chmod(0o777)
    secret.chmod(0o666)
    home = os.path.expanduser("~")
    for path in (
        "/etc/shadow",
        "/root/.bashrc",
        str(secret),
        "/var/log",
        "/run",
        "/sys/class",
        home,
    ):
        result = session.shell(f"cat {path}; ls {path}")
        assert not result.stdout, (path, result.stdout)
    printed = session.shell("cat /etc/passwd /etc/group /etc/hosts /etc/hostname; hostname").stdout
    assert os.uname().nodename not in printed and "sandbox" in printed
    result = session.shell(f"ln -s {secret} link; cat link; ln {secret} hard; cat hard")
    assert "hunter2" not in result.stdout
    names = {line.split("=")[0] for line in session.run(["env"]).stdout.splitlines()}
    assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "PWD", "OLDPWD", "_", "SHLVL"}


def test_E7_no_process_of_the_host(session: Session) -> None:
    assert session.shell(f"kill -9 {os.getpid()}; echo $?").stdout != "0\n"
    assert "Permission denied" in session.shell("ls /proc/1/fd /proc/1/root").stderr
    listed = session.shell("ls /proc").stdout.split()
    assert str(os.getpid()) not in listed


def test_E3_a_listener_on_loopback(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = session.code(
            "import socket\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 2); print('in')\n"
            "except OSError as e: print('refused')\n"
        )
    assert result.stdout == "refused\n"


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("place", ["/tmp/stockade-test-{pid}", "\\0stockade-test-{pid}"])
def test_E3_a_unix_socket_of_the_host(session: Session, kind: str, place: str) -> None:
    name = place.format(pid=os.getpid())
    address = name.replace("\\0", "\0")
    with socket.socket(socket.AF_UNIX, getattr(socket, kind)) as listener:
        listener.bind(address)
        try:
            if kind == "SOCK_STREAM":
                listener.listen()
            if address.startswith("/"):
                os.chmod(address, 0o777)
            result = session.code(
                "import socket\ntry:\n"
                f"  s = socket.socket(socket.AF_UNIX, socket.{kind}); s.connect('{name}')\n"
                "  print('in')\nexcept OSError: print('refused')\n"
            )
        finally:
            if address.startswith("/"):
                os.unlink(address)
    assert result.stdout == "refused\n"


def test_E3_no_socket_is_left_on_the_host(session: Session) -> None:
    name = f"/tmp/stockade-left-{os.getpid()}"
    session.code(f"import socket; socket.socket(socket.AF_UNIX).bind('{name}')")
    assert not os.path.exists(name)


_BY_PATH = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1]
file = f"{folder}/file".encode()
buffer = ctypes.create_string_buffer(512)
watch = libc.inotify_init()
tries = {
    "truncate": lambda: libc.truncate(file, 1),
    "link": lambda: libc.link(file, b"/tmp/stockade-escaped-1"),
    "symlink": lambda: libc.symlink(b"x", b"/tmp/stockade-escaped-2"),
    "rename": lambda: libc.rename(file, b"/tmp/stockade-escaped-3"),
    "mkdir": lambda: libc.mkdir(b"/tmp/stockade-escaped-4", 0o777),
    "rmdir": lambda: libc.rmdir(f"{folder}/empty".encode()),
    "unlink": lambda: libc.unlink(file),
    "creat": lambda: libc.creat(b"/tmp/stockade-escaped-5", 0o666),
    "mkfifo": lambda: libc.mkfifo(b"/tmp/stockade-escaped-6", 0o666),
    "chmod": lambda: libc.chmod(file, 0o777),
    "statfs": lambda: libc.statfs(file, buffer),
    "inotify": lambda: libc.inotify_add_watch(watch, folder.encode(), 0xFFF),
    "access": lambda: libc.access(file, 0),
}
print(*(name for name, call in tries.items() if call() >= 0))
"""


def test_E7_no_call_that_takes_a_path_reaches_the_host(landlock: str, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="stockade-host-", dir="/tmp"))
    try:
        folder.chmod(0o777)
        (folder / "file").write_text("the host's own")
        (folder / "file").chmod(0o666)
        (folder / "empty").mkdir(mode=0o777)
        with stockade.open(landlock) as session:
            result = session.run(["python3", "-c", _BY_PATH, str(folder)])
        # What works there works on the session's own /tmp, which the host never sees.
        reached = set(result.stdout.split()) - {"symlink", "mkdir", "mkfifo", "creat"}
        assert result.success and not reached, result
        assert (folder / "file").read_text() == "the host's own"
        assert (folder / "empty").is_dir()
        assert not list(Path("/tmp").glob("stockade-escaped-*"))
    finally:
        shutil.rmtree(folder)
