"""Interpreters that keep their variables (D20): as fresh ones in all else."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from core.toolkit.supervised.double import ENDED, GONE, NOWHERE, TAKEN, Double
from core.toolkit.supervised.programs import SAME, SOURCE
from stockade.toolkit.supervised.warm import BOOT, NAMED


def test_it_keeps_its_variables(named: Double) -> None:
    first = named.run("import json\nx = 41\ndef f(): return x + 1")
    assert first.said == [(TAKEN, first.pid), (ENDED, 0)]
    second = named.run("print(f(), json.dumps(x))")
    assert (second.out, second.pid) == (b"42 41\n", first.pid)
    assert first.pid != named.pid


def test_what_nobody_catches_ends_nothing(named: Double) -> None:
    named.run("x = 1\ndef f(n):\n    return 1 / n  # here\n")
    failed = named.run("y = 2\n\nf(0)")
    assert failed.status == 1
    lines = failed.err.decode().splitlines()
    shown = [line for line in lines if not set(line.strip()) <= set("~^")]
    assert shown == [
        "Traceback (most recent call last):",
        '  File "<code 2>", line 3, in <module>',
        "    f(0)",
        '  File "<code 1>", line 3, in f',
        "    return 1 / n  # here",
        "ZeroDivisionError: division by zero",
    ]
    assert named.run("y = = 3").err.decode().splitlines()[0] == '  File "<code 3>", line 1'
    assert named.run("print(x, y)").out == b"1 2\n"
    caught = named.run("import traceback\ntry: f(0)\nexcept Exception: traceback.print_exc()")
    assert b"    return 1 / n  # here\n" in caught.err
    got = named.run("import inspect; print(inspect.getsource(f))")
    assert got.out.decode() == "def f(n):\n    return 1 / n  # here\n\n"


@pytest.mark.parametrize("name", [name for name in SAME if name.startswith("exit")])
def test_an_exit_ends_it(name: str, named: Double) -> None:
    """With the status that it has elsewhere, and its variables: the next execution has new ones."""
    assert named.run("import atexit; atexit.register(print, 'bye'); x = 1").status == 0
    ended = named.run(SAME[name])
    codes = {"exit none": 0, "exit 256": 0, "exit -1": 255, "exit huge": 255, "exit 2**32": 5}
    codes.update({"exit 7": 7, "exit true": 1, "exit at once": 9})
    assert ended.status == codes.get(name, 1)
    assert ended.out.endswith(b"bye\n") == (name != "exit at once")
    assert named.hear() == (GONE, 0)


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "os.abort()", "sys.exit(9)"])
def test_other_ends(how: str, named: Double) -> None:
    ended = named.run(f"import os, sys\n{how}")
    assert ended.status == {"kill": -9, "abor": -6, "exit": 9}[how.split(".")[1][:4]]
    assert named.hear() == (GONE, 0)


def test_an_interrupt_leaves_the_variables(named: Double) -> None:
    named.run("x = 1")
    started = named.start(b"import time\nx = 2\nprint('on', flush=True)\ntime.sleep(300)")
    kind, pid = named.hear()
    assert kind == TAKEN
    assert os.read(started.out, 3) == b"on\n"
    os.kill(pid, signal.SIGINT)
    ended = started.end()
    assert ended.status in (-2, 1)  # as the version has it
    assert ended.err.rstrip().endswith(b"KeyboardInterrupt")
    for _ in range(5):  # one that comes when nothing runs interrupts nothing
        os.kill(pid, signal.SIGINT)
        assert named.run("print(x)").out == b"2\n"


def test_arguments_and_paths_are_a_fresh_ones(named: Double, tmp_path: Path) -> None:
    look = "import sys; print(sys.argv, repr(sys.path[0]), __name__)"
    assert named.run(look).out == b"['-c'] '' __main__\n"
    (tmp_path / "stockade_local.py").write_text("print('local')")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "stockade_lib.py").write_text("print('lib')")
    assert named.run("import stockade_local", cwd=str(tmp_path)).out == b"local\n"
    paths = {"PYTHONPATH": f"{tmp_path / 'lib'}:"}
    assert named.run("import stockade_lib, sys; print(sys.path[1])", env=paths).out == (
        f"lib\n{tmp_path / 'lib'}\n".encode()
    )
    assert str(tmp_path).encode() not in named.run("print(sys.path)").out
    assert named.run("\ufeffprint(1)").out == b"1\n"


def test_variables_that_are_read_at_the_start(python: str, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(tmp_path), "PYTHONOPTIMIZE": "2", "A": "1", "PYTHONHASHSEED": "7"}
    with Double(python, BOOT, SOURCE, NAMED) as double:
        look = (
            "import os, sys; print(sys.path[1], __debug__, os.environ['A'], sys.argv, "
            "hash('a') == h if 'h' in globals() else 0, sys.flags.hash_randomization)\n"
            "h = hash('a')"
        )
        first = double.run(look, env=env)
        assert first.out.decode() == f"{tmp_path} False 1 ['-c'] 0 1\n"
        second = double.run(look, env=env)
        assert (second.out.decode(), second.pid) == (
            f"{tmp_path} False 1 ['-c'] True 1\n",
            first.pid,
        )
        assert double.run("print('A' in os.environ, __file__)").out.decode() == (
            f"False /proc/{first.pid}/fd/9\n"
        )
        assert double.run("exit(5)").status == 5


def test_a_job_brings_its_own_surroundings(named: Double, tmp_path: Path) -> None:
    seen = named.run(
        "import os, sys; print(os.getcwd(), os.environ['A'], sys.stdin.read())",
        env={"A": "b"},
        cwd=str(tmp_path),
        stdin=b"in",
    )
    assert seen.out.decode() == f"{tmp_path} b in\n"
    seen = named.run("print(os.getcwd(), 'A' in os.environ, sys.stdin.read(), sep='|')")
    assert seen.out == b"/|False|\n"
    assert named.run("x = 1", cwd="/no/such").said == [(NOWHERE, errno.ENOENT)]
    assert named.run("print('x' in globals())").out == b"False\n"
    zone = "import time; print(time.localtime(0).tm_hour)"
    assert named.run(zone, env={"TZ": "XYZ-5"}).out == b"5\n"
    assert named.run(zone).out == b"0\n"


def test_streams_are_each_jobs_own(named: Double) -> None:
    text = "import os, threading\nthreading.Timer(0.2, print, ['late']).start(); print('now')"
    assert named.run(text, stdin=b"abc").out == b"now\n"
    time.sleep(0.4)
    text = "import sys; sys.stdin.read(1); sys.stdout.close(); os.close(0); os.close(2)"
    assert named.run(text, stdin=b"abc").out == b""
    seen = named.run("print(sys.stdin.read()); sys.stderr.write('e')", stdin=b"def")
    assert (seen.out, seen.err) == (b"def\n", b"e")
    kept = "import io; sys.stdout = io.StringIO()"
    assert named.run(kept).status == 0
    assert named.run("print(1); sys.__stdout__.write(sys.stdout.getvalue())").out == b"1\n"


def test_its_children_do_not_serve(named: Double) -> None:
    seen = named.run(
        "import os\npid = os.fork()\nprint('both', flush=True)\nx = 1\n"
        "if pid: print(os.waitpid(pid, 0)[1])"
    )
    assert seen.out == b"both\nboth\n0\n"
    assert named.run("print(x)").out == b"1\n"
    seen = named.run("pid = os.fork()\nif not pid: exit(3)\nprint(os.waitpid(pid, 0)[1] >> 8)")
    assert (seen.out, seen.status) == (b"3\n", 0)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_new_interpreters_find_the_functions_of_a_job(method: str, named: Double) -> None:
    text = (
        "import multiprocessing\ndef double(n): return n * 2\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context('{method}')\n"
        "    with context.Pool(2) as pool: print(pool.map(double, [1, 2]))\n"
    )
    for _ in range(2):
        seen = named.run(text)
        assert (seen.out, seen.err) == (b"[2, 4]\n", b"")


def test_one_that_ended_meanwhile_is_made_anew(named: Double) -> None:
    first = named.run("x = 1")
    os.kill(first.pid, signal.SIGKILL)
    time.sleep(0.05)
    second = named.run("print('x' in globals())")
    assert second.out == b"False\n"
    assert second.pid != first.pid


def test_what_it_says_is_believed_in_its_time_alone(named: Double) -> None:
    """Its programs reach its own socket, and can end their own execution: no other's."""
    shout = "import os, struct\ntry: os.write(10, struct.pack('<II', {}, {}))\nexcept OSError: pass"
    ended = named.run(shout.format(ENDED, 0x1307F) + "\nimport time; time.sleep(300)")
    assert ended.said[-1] == (ENDED, 0x307F & 0xFF7F)
    os.kill(ended.pid, signal.SIGKILL)
    assert named.run("print(2)").out == b"2\n"
    ended = named.run(shout.format(77, 1) + "\nimport time; time.sleep(300)")
    assert ended.status == -9  # a malformed answer ends it


def test_texts_that_tracebacks_need_do_not_pile_up(named: Double) -> None:
    fill = f"x = '''{'x' * (1 << 20)}'''\ndef f(): 1 / 0\n"
    for _ in range(12):
        assert named.run(fill).status == 0
    seen = named.run("import linecache; print(sum(entry[0] for entry in linecache.cache.values()))")
    assert int(seen.out) < 9 << 20
    assert "    def f(): 1 / 0" in named.run("f()").err.decode().splitlines()
