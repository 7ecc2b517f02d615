"""Warm interpreters are as new ones: how programs start, write and end, and the protocol."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.toolkit.supervised.double import ENDED, GONE, NOWHERE, READY, TAKEN, Double
from core.toolkit.supervised.programs import SAME, SOURCE, STATUS_ALONE, TRACEBACKS
from core.toolkit.supervised.starting import Ended, carry_out, code
from stockade.toolkit.supervised.warm import BOOT, FRESH

INPUT = b"line\n\0rest"


@pytest.fixture(scope="module")
def fresh(python: str) -> Iterator[Double]:
    """One interpreter for all: what an earlier program left would show."""
    with Double(python, BOOT, SOURCE, FRESH) as double:
        yield double


def new(python: str, *arguments: str) -> Ended:
    """What a new interpreter makes of it."""
    ended = subprocess.run(
        [python, *arguments],
        input=INPUT,
        capture_output=True,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        start_new_session=True,
        timeout=60,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def both(fresh: Double, python: str, text: str, stdin: bytes = INPUT) -> list[Ended]:
    """By the warm interpreter, and by the cold start that stands for it."""
    warm = fresh.run(text.encode("utf-8", "surrogateescape"), stdin=stdin)
    cold = carry_out(code(text, interpreter=python, stdin=stdin))
    return [Ended(warm.status, warm.out, warm.err), cold]


@pytest.mark.parametrize("name", SAME)
def test_a_program_is_as_in_a_new_interpreter(name: str, fresh: Double, python: str) -> None:
    expected = new(python, "-c", SAME[name])
    for seen in both(fresh, python, SAME[name]):
        if name in STATUS_ALONE:
            assert seen[:2] == expected[:2]
        else:
            assert seen == expected


@pytest.mark.parametrize("name", TRACEBACKS)
def test_a_traceback_is_a_files(name: str, fresh: Double, python: str, tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_text(TRACEBACKS[name])
    status, out, err = new(python, str(file))
    for seen in both(fresh, python, TRACEBACKS[name]):
        assert (seen.status, seen.out) == (status, out)
        assert comparable(seen.err) == comparable(err, str(file))


def comparable(shown: bytes, file: str = "") -> str:
    text = shown.decode()
    if file:
        text = text.replace(file, "/proc/self/fd/9")
    # The frames that run a program count where recursion ends.
    return re.sub(r"0x[0-9a-f]+|repeated \d+ more", "#", text)


def test_a_job_is_taken_and_ends_in_a_process_of_its_own(fresh: Double, python: str) -> None:
    """What is reported, in order: a process of its own has taken it, and it has ended."""
    assert fresh.ready == (READY, fresh.pid)
    first = fresh.run("import os; print(os.getpid(), os.getppid())")
    assert first.out.decode().split() == [str(first.pid), str(fresh.pid)]
    second = fresh.run("exit(3)")
    assert second.said == [(TAKEN, second.pid), (ENDED, 3 << 8)]
    assert len({first.pid, second.pid, fresh.pid}) == 3


def test_nothing_of_an_earlier_program_is_seen(fresh: Double, python: str) -> None:
    look = (
        "import builtins, os, sys, signal\n"
        "print(sys.path, sorted(sys.modules), hasattr(builtins, 'x'), 'X' in os.environ)\n"
        "print(sys.getrecursionlimit(), signal.getsignal(15), os.getcwd(), os.umask(0))\n"
    )
    before = fresh.run(look)
    change = (
        "import builtins, json, os, sys, signal; builtins.x = 1; os.environ['X'] = '1'\n"
        "sys.path.append('/x'); sys.setrecursionlimit(99); signal.signal(15, signal.SIG_IGN)\n"
        "os.chdir('/tmp'); os.umask(0o777)"
    )
    assert fresh.run(change, env={"X": "2"}).status == 0
    assert fresh.run(look).out == before.out


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_new_interpreters_find_its_functions(method: str, fresh: Double, python: str) -> None:
    text = (
        "import multiprocessing\n"
        "class A:\n    def __init__(self, n): self.n = n\n"
        "def double(a): return A(a.n * 2)\n"
        "def fail(a): raise ValueError(a.n)\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method('{method}')\n"
        "    with multiprocessing.Pool(2) as pool:\n"
        "        print([a.n for a in pool.map(double, [A(1), A(2)])])\n"
        "        try: pool.map(fail, [A(3)])\n"
        "        except ValueError as e: print(str(e.__cause__))\n"
    )
    for seen in both(fresh, python, text):
        assert seen[::2] == (0, b"")
        out = seen.out.decode()
        assert out.startswith("[2, 4]\n")
        # The line itself, as shown by the other interpreter.
        assert "line 5, in fail\n    def fail(a): raise ValueError(a.n)\n" in out


def test_its_source_is_found(fresh: Double, python: str) -> None:
    text = (
        "import inspect, sys\ndef f():\n    return 1  # f\n\nclass A:\n    x = 1  # A\n"
        "print(inspect.getsource(f) + inspect.getsource(A) + f.__code__.co_filename)\n"
        "print(len(inspect.getsource(sys.modules[__name__])), len(open(__file__).read()))\n"
    )
    shown = "def f():\n    return 1  # f\nclass A:\n    x = 1  # A\n/proc/self/fd/9\n"
    for seen in both(fresh, python, text):
        assert seen.out.decode() == f"{shown}{len(text)} {len(text)}\n", seen


def test_text_of_any_kind(fresh: Double, python: str) -> None:
    for text, right in {
        "\ufeffprint(1)": (0, b"1\n"),
        "print(ascii('é\u2603'))": (0, b"'\\xe9\\u2603'\n"),
        "# -*- coding: latin-1 -*-\nprint(ascii('é'))": (0, b"'\\xe9'\n"),
        "print(1)\r\nprint(2)\r\n": (0, b"1\n2\n"),
        "": (0, b""),
        f"x = '{'x' * (1 << 20)}'\nprint(len(x))": (0, b"1048576\n"),
    }.items():
        for seen in both(fresh, python, text):
            assert seen == (*right, b""), text[:80]
    for text in ("x = '\udcff'", "print(1)\0"):
        for seen in both(fresh, python, text):
            assert seen[:2] == (1, b"") and b"Error" in seen.err, text


def test_folder_and_variables(fresh: Double, python: str, tmp_path: Path) -> None:
    look = "import os, time; print(os.getcwd(), os.environ.get('A'), time.strftime('%H', (0,) * 9))"
    seen = fresh.run(look, cwd=str(tmp_path), env={"A": "b=c\n\udcff", "B": ""})
    assert seen.out == f"{tmp_path} b=c\n".encode() + b"\xff 00\n" or seen.status
    zone = "import time; print(time.tzname, time.localtime(0).tm_hour)"
    assert fresh.run(zone, env={"TZ": "XYZ-5"}).out == b"('XYZ', 'XYZ') 5\n"
    missing = fresh.run("print(1)", cwd=str(tmp_path / "none"))
    assert missing.said == [(NOWHERE, errno.ENOENT)]
    assert not missing.out
    file = tmp_path / "file"
    file.touch()
    assert fresh.run("print(1)", cwd=str(file)).said == [(NOWHERE, errno.ENOTDIR)]
    assert fresh.run("print(1)").out == b"1\n"


def test_arguments_follow_those_of_the_cold_start(fresh: Double, python: str) -> None:
    look = "import sys; print(sys.argv)"
    assert fresh.run(look, arguments=()).out == b"['-c']\n"
    more = fresh.run(look, arguments=("python", "-c", "text", "a b", "-x", ""))
    assert more.out == b"['-c', 'a b', '-x', '']\n"


def test_modules_that_came_later_are_found(python: str, tmp_path: Path) -> None:
    """A folder of PYTHONPATH that was not there, and what an installer put into the user's."""
    paths = {"PYTHONPATH": str(tmp_path / "lib"), "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    with Double(python, BOOT, SOURCE, FRESH, paths) as double:
        look = "import sys; print(repr(sys.path[0]), sys.path[1]); import stockade_found"
        seen = double.run(look)
        assert seen.out.decode() == f"'' {tmp_path / 'lib'}\n"
        assert seen.status == 1
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "stockade_found.py").write_text("print('found')")
        assert double.run(look).out.endswith(b"found\n")
        site = double.run("import site; print(site.getusersitepackages())").out.decode().strip()
        extra = tmp_path / "extra"
        extra.mkdir()
        (extra / "stockade_other.py").write_text("print('other')")
        Path(site).mkdir(parents=True)
        (Path(site) / "x.pth").write_text(f"{extra}\n")
        text = "import stockade_other, os, sys; print(os.getpid(), sys.argv, __file__); exit(7)"
        seen = double.run(text, stdin=b"x")
        assert seen.out.decode() == f"other\n{seen.pid} ['-c'] /proc/{seen.pid}/fd/9\n"
        assert seen.status == 7
        assert double.hear() == (GONE, 0)  # so that the next one is up to date


def test_a_home_of_its_own(python: str, tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    with Double(python, BOOT, SOURCE, FRESH, {"HOME": str(homes[0])}) as double:
        site = double.run("import site; print(site.getusersitepackages())").out.decode().strip()
        other = Path(site.replace(str(homes[0]), str(homes[1])))
        other.mkdir(parents=True)
        (other / "stockade_other.py").write_text("print('other')")
        look = "import stockade_other"
        assert double.run("print(1)", env={"HOME": str(homes[2])}).out == b"1\n"
        assert double.run(look, env={"HOME": str(homes[2])}).status == 1
        assert double.run(look, env={"HOME": str(homes[1])}).out == b"other\n"


def test_a_terminal(fresh: Double, python: str) -> None:
    seen = fresh.run(
        "import sys; print(sys.stdout.isatty(), sys.stdout.line_buffering, sys.stdin.isatty())",
        terminal=True,
    )
    assert seen.out + seen.err == b"True True True\r\n"


def test_what_is_left_behind_holds_nothing_up(fresh: Double, python: str) -> None:
    text = "import subprocess; print(subprocess.Popen(['sleep', '300']).pid)"
    seen = fresh.run(text)
    os.kill(int(seen.out), signal.SIGKILL)
    assert seen.status == 0
    # And the output that it held open was its own program's.
    assert fresh.run("print(2)").out == b"2\n"


def test_no_program_reaches_its_socket(fresh: Double, python: str) -> None:
    text = (
        "import os\n"
        "for n in range(3, 64):\n    try: os.write(n, b'x' * 8)\n    except OSError: pass\n"
        "print(os.listdir('/proc/%d/fd' % os.getppid()))"
    )
    seen = fresh.run(text)
    assert fresh.run("print(1)").out == b"1\n"
    if has_ctypes(python) and os.getuid():
        assert b"PermissionError" in seen.err


def has_ctypes(python: str) -> bool:
    return (
        subprocess.run([python, "-c", "import ctypes"], stderr=subprocess.DEVNULL).returncode == 0
    )
