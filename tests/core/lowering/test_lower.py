"""Shell lines and code as an argument vector, run as such: what walls that have no more get."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.errors import ConfigError
from stockade.lowering import lower
from stockade.wall import ExecRequest, Form


def run(
    script: str, language: str = "python", stdin: bytes = b"", **options: object
) -> tuple[int, bytes, bytes]:
    request = ExecRequest(
        execution_id="x",
        form=Form.CODE,
        script=script,
        language=language,
        interpreter=sys.executable if language == "python" else None,
        stdin=stdin,
    )
    lowered = lower(request)
    ended = subprocess.run(
        lowered.argv, input=lowered.stdin, capture_output=True, cwd="/", timeout=60, **options
    )  # type: ignore[call-overload]
    return ended.returncode, ended.stdout, ended.stderr


def test_a_byte_order_mark_is_no_error() -> None:
    assert run("\ufeffprint(1)") == (0, b"1\n", b"")


def test_a_traceback_shows_the_programs_lines_and_no_others() -> None:
    status, out, err = run("def f():\n    return 1 / 0  # here\n\nf()  # there\n")
    assert (status, out) == (1, b"")
    shown = [line for line in err.decode().splitlines() if not set(line.strip()) <= set("~^")]
    assert shown == [
        "Traceback (most recent call last):",
        '  File "/proc/self/fd/9", line 4, in <module>',
        "    f()  # there",
        '  File "/proc/self/fd/9", line 2, in f',
        "    return 1 / 0  # here",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_other_processes_find_its_functions(method: str) -> None:
    text = (
        "import multiprocessing\ndef double(n): return n * 2\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context('{method}')\n"
        "    with context.Pool(2) as pool: print(pool.map(double, [1, 2]))\n"
    )
    assert run(text) == (0, b"[2, 4]\n", b"")


def test_arguments_paths_and_exit_are_a_new_interpreters(tmp_path: Path) -> None:
    look = "import sys; print(sys.argv, sys.path[:2], sorted(globals())); exit(7)"
    names = ["__annotations__", "__builtins__", "__doc__", "__file__", "__loader__", "__name__"]
    names += ["__package__", "__spec__", "sys"]
    right = f"['-c'] ['', '{tmp_path}'] {names}\n".encode()
    assert run(look, env={"PYTHONPATH": str(tmp_path)}) == (7, right, b"")
    assert run("import inspect; print(inspect.getsource(f))\n", stdin=b"")[0] == 1
    assert run("def f(): pass\nimport inspect; print(inspect.getsource(f))")[1] == (
        b"def f(): pass\n\n"
    )
    assert run("exit('why')") == (1, b"", b"why\n")
    assert run("raise KeyboardInterrupt")[0] == -2


def test_a_text_that_is_no_file_runs_as_well() -> None:
    """Where the system has no file without a folder, or no /proc."""
    text = "import os; print(1, __name__, '__file__' in globals()); f"
    lowered = lower(
        ExecRequest(execution_id="x", form=Form.CODE, script=text, language="python", stdin=b"in")
    )
    program = lowered.argv[2].replace("/proc/self/fd/9", "/no/such/file")
    ended = subprocess.run(
        [sys.executable, "-c", program, lowered.argv[3]], input=lowered.stdin, capture_output=True
    )
    assert ended.stdout == b"1 __main__ False\n"
    assert b'File "<code>", line 1' in ended.stderr


def test_what_cannot_arrive_unchanged_is_refused() -> None:
    with pytest.raises(ConfigError, match="code in sh holds NUL"):
        run("echo a\0b", "sh")
    with pytest.raises(ConfigError, match="code in python holds a lone surrogate at character 0"):
        run("\ud800")


def test_nothing_of_the_reader_is_in_the_codes_way() -> None:
    if not shutil.which("node"):
        pytest.skip("no node here")
    text = "const fs = require('fs'), n = 1, b = 2, at = 3;\n"
    text += "import('path').then(m => console.log(m.sep, fs.readFileSync(0, 'utf8'), n, b, at))"
    assert run(f"\ufeff{text}", "javascript", b"in") == (0, b"/ in 1 2 3\n", b"")
