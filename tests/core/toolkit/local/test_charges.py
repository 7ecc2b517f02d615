"""What the kernel keeps for processes, as it is seen from outside; looked at in processes of
this machine that keep it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from stockade.toolkit.local import charges, tree
from stockade.toolkit.local.charges import Charges, status_of

LIMIT = 64 << 20


@pytest.fixture
def program() -> Iterator[Callable[[str], int]]:
    """Python that keeps what the code makes; its process id, once it has."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> int:
        line = f"kept = []\n{code}\nprint(flush=True)\nimport time; time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def of(pid: int, looks: int = 1) -> int:
    seen = Charges(LIMIT)
    for _ in range(looks):
        seen.look([pid])
        found = seen.of(pid, tree.open_files(pid))
    return found + status_of(pid).kept


def test_E5_threads_and_descriptors(program: Callable[[str], int]) -> None:
    few = of(program(""))
    threads = of(
        program(
            "import threading, time\nfor _ in range(100):\n"
            "  threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
        )
    )
    files = of(program("import os\nfor _ in range(200): kept.append(os.pipe())"))
    assert few < 1 << 20
    assert threads - few >= 100 * (16 << 10)
    assert files - few >= 400 * (8 << 10)


def test_E5_page_tables(program: Callable[[str], int]) -> None:
    pid = program(
        "import mmap\n"
        "area = mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000,"
        " prot=mmap.PROT_READ)\n"
        "area.madvise(15)\nkept.append(area)\n"
        "for at in range(0, 8 << 30, 2 << 20): area[at]"
    )
    assert status_of(pid).resident >= 16 << 20


def test_E5_descriptors_that_are_watched_by_many(program: Callable[[str], int]) -> None:
    pid = program(
        "import os, select\nfiles = [os.eventfd(0) for _ in range(200)]\n"
        "for _ in range(100):\n"
        "  one = select.epoll(); kept.append(one)\n"
        "  for file in files: one.register(file)"
    )
    assert of(pid) >= 200 * 100 * 200


def test_E5_mappings(program: Callable[[str], int]) -> None:
    pid = program(
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n"
        "at = libc.mmap(None, ctypes.c_size_t(40000 * 4096), 0, 0x4022, -1, 0)\n"
        "for page in range(0, 40000, 2): libc.mprotect(at + page * 4096, 4096, 1)"
    )
    assert of(pid, looks=60) - of(pid) >= 40_000 * 200


def test_E5_shared_memory_of_a_device_is_too_much(program: Callable[[str], int]) -> None:
    pid = program(
        "import mmap, os\nkept.append(mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20))"
    )
    assert of(pid, looks=10) >= LIMIT


def test_E5_locks(program: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charges, "_MANY_LOCKS_BYTES", 1 << 10)
    pid = program(
        "import fcntl, tempfile\nfile = tempfile.TemporaryFile(); kept.append(file)\n"
        "for at in range(0, 4000, 2): fcntl.lockf(file, fcntl.LOCK_EX, 1, at)"
    )
    assert of(pid, looks=101) - of(pid) >= 2000 * 200


def test_E5_filters(program: Callable[[str], int]) -> None:
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.prctl(38, 1, 0, 0, 0)\n"
        "class Program(ctypes.Structure):\n"
        "  _fields_ = (('length', ctypes.c_ushort), ('steps', ctypes.c_void_p))\n"
        "step = ctypes.create_string_buffer(b'\\x06\\0\\0\\0\\0\\0\\xff\\x7f', 8)\n"
        "program = Program(1, ctypes.addressof(step))\n"
        "for _ in range(20): libc.prctl(22, 2, ctypes.byref(program), 0, 0)"
    )
    assert status_of(program(code)).kept - status_of(program("")).kept >= 18 * (32 << 10)


def test_a_process_that_is_gone_costs_nothing() -> None:
    assert status_of(1 << 22).kept == status_of(1 << 22).resident == 0
    assert of(1 << 22, looks=10) == 0


def test_E5_sockets_of_this_machines_own_network_are_everybodys() -> None:
    assert Charges(LIMIT).of_sockets(os.getpid()) == 0
