"""Checks of E, second part: space, processes, memory, cpu (E2, E4 to E6)."""

from __future__ import annotations

import os
import re

import pytest

from stockade.capabilities import Feature
from stockade.results import Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import hog, say, unique


class Limits(ConformanceBase):
    """What the code inside can use up."""

    def test_E2_read_only_but_for_two_folders(self) -> None:
        self.need(Feature.READ_ONLY_ROOT, Feature.SHELL)
        name = unique("x")
        with self.shared() as session:
            for path in ("/", "/usr", "/etc", "/bin", "/var", "/dev"):
                line = f"echo x > {path}/{name} && rm {path}/{name} && echo written"
                result = session.shell(line)
                expect(
                    "written" not in result.stdout and not result.success,
                    "E2",
                    f"no file in {path}",
                    result,
                )
            for path in (session.provider.config.working_dir, "/tmp"):
                result = session.shell(f"echo x > {path}/{name} && rm {path}/{name}")
                expect(result.success, "E2", f"a file in {path}", result)

    def test_E2_code_writes_to_two_folders_alone(self) -> None:
        self.need(Feature.READ_ONLY_ROOT, Feature.CODE)
        name = unique("x")
        with self.shared() as session:
            self.need_python(session)
            folders = ("/", "/usr", "/etc", "/bin", "/var", "/root", "/home", "/opt", "/dev")
            result = session.code(_WRITE.format(name=name, folders=folders))
            written = result.stdout.split()
            expect(not written, "E2", "no file elsewhere", written)

    def test_E2_filling_the_space_hurts_only_the_sandbox(self) -> None:
        self.need(Feature.DISK, Feature.SHELL)
        name = unique("fill")
        with self.session(disk_mb=16) as session:
            for folder in (session.provider.config.working_dir, "/tmp"):
                path = f"{folder}/{name}"
                session.shell(f"for i in 1 2 3 4; do head -c 10000000 /dev/zero > {path}$i; done")
                kept = int(session.shell(f"cat {path}? | wc -c").stdout)
                session.shell(f"rm -f {path}?")
                expect(kept <= 16 << 20, "E2", "at most 16 MiB", kept)
            seen = session.shell("echo ok > f && cat f").stdout
            expect(seen == "ok\n", "E2", "a usable session", seen)

    def test_E2_temporary_files_and_shared_memory(self) -> None:
        self.need(Feature.READ_ONLY_ROOT, Feature.SHELL)
        path = unique("x")
        with self.shared() as session:
            for folder in ("/var/tmp", "/dev/shm"):
                line = f"echo x > {folder}/{path} && cat {folder}/{path} && rm {folder}/{path}"
                result = session.shell(line)
                expect(result.stdout == "x\n", "E2", f"a file in {folder}", result)

    def test_E2_code_shares_memory_between_processes(self) -> None:
        self.need(Feature.READ_ONLY_ROOT, Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
            result = session.code(_SHARE, timeout=self.scaled(30))
            if "no multiprocessing" in result.stdout:
                pytest.skip("this sandbox's Python has no multiprocessing")
            expect(result.stdout == "shared\n", "E2", "a lock and memory for two", result)

    def test_E2_temporary_files_and_shared_memory_are_bounded(self) -> None:
        self.need(Feature.READ_ONLY_ROOT, Feature.DISK, Feature.SHELL)
        with self.session(disk_mb=16) as session:
            for folder, most in (("/var/tmp", 16 << 20), ("/dev/shm", 256 << 20)):
                count = 2 * most // _PIECE
                line = f"i=0; while [ $i -lt {count} ]; do i=$((i+1)); head -c {_PIECE} /dev/zero"
                session.shell(f"cd {folder} && {line} > fill$i || exit; done 2>/dev/null")
                kept = int(session.shell(f"cat {folder}/fill* | wc -c").stdout)
                session.shell(f"rm -f {folder}/fill*")
                expect(0 < kept <= most, "E2", f"at most {most} bytes in {folder}", kept)
            seen = session.shell("echo ok > f && cat f").stdout
            expect(seen == "ok\n", "E2", "a usable session", seen)

    def test_E4_the_process_limit_holds(self) -> None:
        self.need(Feature.PROCESSES, Feature.SHELL)
        with self.session(max_processes=32) as session:
            # A shell that cannot fork ends with an error, after the last count it printed.
            line = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); echo $i; done"
            result = session.shell(line, timeout=self.scaled(20))
            words = result.stdout.split()
            count = int(words[-1]) if words else 0
            expect(count <= 32, "E4", "at most 32 processes", result)
            for _ in range(3):  # they all sleep on: what is free must not be used up, either
                self.usable(session, "E4")

    def test_E4_threads_count_too(self) -> None:
        self.need(Feature.PROCESSES, Feature.CODE)
        with self.session(max_processes=32) as session:
            self.need_python(session)
            result = session.code(_THREADS, timeout=self.scaled(20))
            if result.stdout == "none\n":
                pytest.skip("the Python in this sandbox has no threads")
            count = int(result.stdout or "0")
            expect(0 < count <= 32, "E4", "at most 32 threads", result)
            self.usable(session, "E4")

    def test_E5_the_memory_limit_holds(self) -> None:
        self.need(Feature.MEMORY)
        with self.session(memory_mb=128) as session:
            result = self.run(session, hog(), timeout=self.scaled(40))
            expect(result.verdict is Verdict.OUT_OF_MEMORY, "E5", "out of memory", result)
            if self.one_kernel(session):
                return
            self.usable(session, "E5")

    def test_E6_the_cpu_limit_holds(self) -> None:
        self.need(Feature.CPU, Feature.SHELL)
        with self.session(cpu_limit=0.25) as session:
            self.run(session, say("x"))
            if self.one_kernel(session):
                self._by_work(session)
                return
            result = session.shell(_SPIN, timeout=self.scaled(40))
            used = sum(float(m) * 60 + float(s) for m, s in _TIMES.findall(result.stdout))
            expect(used > 0, "E6", "a program that prints what it used", result)
            allowed = 0.25 * result.duration_seconds * 1.6 + 0.2
            expect(used <= allowed, "E6", f"at most {allowed:.1f} s of cpu time", used)

    def _by_work(self, quarter: Session) -> None:
        """By the work done, not the time reported: a kernel inside counts that as it likes.

        Beside a session of a whole cpu at the same time, so that a busy machine slows both;
        and again where it slowed one alone.
        """
        done: list[tuple[int, ...]] = []
        with self.session(cpu_limit=1.0) as whole:
            for _ in range(4):
                started = [
                    session.start(shell=f"({_WORK}) & {_WORK}", timeout=self.scaled(2.5))
                    for session in (whole, quarter)
                ]
                results = [execution.result(self.scaled(30)) for execution in started]
                done.append(tuple(result.stdout_total_bytes for result in results))
                if done[-1][1] < 0.6 * done[-1][0]:
                    return
        if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
            pytest.skip("this machine is too busy to give either session its limit")
        expect(False, "E6", "a quarter of the cpu, a quarter of the work", done)


#: Bytes of one file where folders are filled.
_PIECE = 8 << 20
_SHARE = """
try:
    import multiprocessing
    from multiprocessing import shared_memory
    context = multiprocessing.get_context("fork")
except (ImportError, ValueError):
    raise SystemExit(print("no multiprocessing"))
lock = context.Lock()
memory = shared_memory.SharedMemory(create=True, size=4096)
def write():
    with lock: memory.buf[:6] = b"shared"
child = context.Process(target=write)
child.start(); child.join()
with lock: print(bytes(memory.buf[:6]).decode())
memory.close(); memory.unlink()
"""
_WRITE = """
import os
for folder in {folders!r}:
    path = folder + "/{name}"
    try: open(path, "w").close(); print(folder); os.remove(path)
    except (OSError, NotImplementedError): pass
"""
_THREADS = """
import time
try: import threading
except ImportError: raise SystemExit(print('none'))
count = 0
try:
    while count < 100:
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        count += 1
except RuntimeError:
    pass
print(count, flush=True)
import os
os._exit(0)
"""
_COUNT = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done"
_WORK = f"while :; do {_COUNT}; echo; done"
#: Four that use the cpu for two seconds and more, and then print how much they got.
_SPIN = f"""
spin() {{ e=$(($(date +%s) + 3)); while [ $(date +%s) -lt $e ]; do {_COUNT}; done; times; }}
(spin) & (spin) & (spin) & (spin) & wait
"""
_TIMES = re.compile(r"(\d+)m([\d.]+)s")
