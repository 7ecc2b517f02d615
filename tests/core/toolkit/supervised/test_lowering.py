"""How requests become starts: every form and language, as the programs themselves see it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from core.toolkit.supervised.starting import Ended, carry_out, code, shell
from stockade.errors import ConfigError, LanguageError
from stockade.toolkit.supervised.lowering import lower_request
from stockade.wall import ExecRequest, Form

SHELLS = [("dash",), ("bash",), ("bash", "--posix"), ("busybox", "sh")]
#: Lines whose end and output are those that ``sh -c`` gives.
LINES = [
    "echo $0 $# $1",
    "exit 3",
    "(exit 7)",
    "false",
    "cat",
    "read a; echo $a; cat",
    'x=$(cat); echo "$x"',
    "kill -9 $$",
    "set -e; false; echo no",
    "trap 'echo bye' EXIT; exit 5",
    "cat <<E\nhi $0\nE\nexit 6",
    "# nothing",
    "",
    "\n\necho $LINENO >/dev/null; echo hi",
    "exec sh -c 'exit 8'",
    "f() { return 9; }; f",
    "echo 'a b'\\''c' \"$HOME\" \\$x",
]


@pytest.mark.parametrize("program", SHELLS, ids=" ".join)
@pytest.mark.parametrize("line", LINES)
def test_a_line_does_what_it_does_as_an_argument(line: str, program: tuple[str, ...]) -> None:
    if not shutil.which(program[0]):
        pytest.skip(f"no {program[0]} here")
    expected = subprocess.run(
        [*program, "-c", line, "sh"], input=b"one\ntwo\n", capture_output=True, cwd="/", timeout=60
    )
    seen = carry_out(shell(line, stdin=b"one\ntwo\n", env={"HOME": "/root"}), program)
    assert seen == Ended(expected.returncode, expected.stdout, expected.stderr)


@pytest.mark.parametrize("program", SHELLS, ids=" ".join)
def test_a_line_has_no_descriptor_more_and_no_limit_of_length(program: tuple[str, ...]) -> None:
    if not shutil.which(program[0]):
        pytest.skip(f"no {program[0]} here")
    # Whatever the shell itself opens, a program that it starts has three.
    look = "exec sh -c 'for d in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$d ] && echo $d; done; :'"
    assert carry_out(shell(look), program) == Ended(0, b"", b"")
    line = ": " + "x" * (1 << 20) + "\nwc -c; exit 2"
    assert carry_out(shell(line, stdin=b"\0" * 70000), program)[:2] == (2, b"70000\n")


def test_nothing_of_a_text_or_a_value_stands_in_the_arguments() -> None:
    for lowered in (
        shell("echo secret", env={"A": "secret"}),
        *(code("secret", name, env={"A": "secret"}) for name in ("python", "sh", "bash")),
        *(code("secret", name, env={"A": "secret"}) for name in ("javascript", "perl", "ruby")),
    ):
        assert "secret" not in " ".join(lowered.argv)
        assert "secret" not in repr(lowered)
        assert b"secret" in (lowered.blob or b"")
        assert lowered.env == {"A": "secret"}


def test_an_argument_vector_stays_as_it_is() -> None:
    request = ExecRequest(
        execution_id="x", form=Form.ARGV, argv=("a", "", "-b\n"), stdin=b"in", working_dir="/w"
    )
    lowered = lower_request(request)
    assert (lowered.argv, lowered.blob, lowered.stdin) == (("a", "", "-b\n"), None, b"in")
    assert (lowered.cwd, lowered.warm, lowered.state, lowered.interpreter) == (
        "/w",
        False,
        None,
        "",
    )


@pytest.mark.parametrize("make", [shell, lambda text: code(text, "sh")])
def test_what_no_shell_takes_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match="NUL"):
        make("echo a\0b")
    with pytest.raises(ConfigError, match="lone surrogate at character 5"):
        make("echo \ud800")
    assert make("echo \udcff").blob.endswith(b"echo \xff\n")


def test_an_unknown_language_lists_the_known_ones() -> None:
    with pytest.raises(LanguageError, match="python"):
        code("x", "cobol")


def test_what_can_be_warm_is_said() -> None:
    lowered = code("1", interpreter="/opt/python", env={"A": "1"})
    assert (lowered.warm, lowered.state, lowered.interpreter) == (True, None, "/opt/python")
    assert lowered.argv[0] == "/opt/python"
    for name in ("PYTHONPATH", "LD_PRELOAD", "LANG", "LC_ALL", "MALLOC_ARENA_MAX"):
        assert not code("1", env={name: "x"}).warm
        # One that keeps its variables has no cold start: it is started for them.
        lowered = code("1", env={name: "x"}, state="a")
        assert (lowered.warm, lowered.state) == (True, "a")
    assert not code("1", "perl").warm
    assert not shell("1").warm


PROGRAMS = {
    "javascript": (
        "const fs = require('fs'), text = 1;\n"
        "console.log(fs.readFileSync(0, 'utf8'), process.argv.length, typeof b);\n"
        "import('path').then(m => { console.log(m.sep); process.exit(3) })",
        (3, "in\0 1 undefined\n/\n"),
    ),
    "perl": (
        "print <STDIN>, scalar(@ARGV), qq(\\n), <DATA>; exit 3\n__END__\nthe end\n",
        (3, "in\x000\nthe end\n"),
    ),
    "ruby": ("print STDIN.read, ARGV.size, DATA.read; exit 3\n__END__\n!", (3, "in\x000!")),
    "bash": ("a=(1 2); echo $0 $# ${a[1]}; cat; exit 3", (3, "bash 0 2\nin\0")),
    "sh": ("echo $0 $#; cat; exit 3", (3, "sh 0\nin\0")),
    "python": (
        "import sys; print(sys.stdin.read(), sys.argv, repr(sys.path[0])); exit(3)",
        (3, "in\0 ['-c'] ''\n"),
    ),
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_code_has_its_own_input(language: str) -> None:
    text, (status, out) = PROGRAMS[language]
    lowered = code(text, language, stdin=b"in\0")
    if not shutil.which(lowered.argv[0]):
        pytest.skip(f"no {lowered.argv[0]} here")
    ended = carry_out(lowered)
    assert ended == (status, out.encode(), b"")
    assert carry_out(code("", language)) == (0, b"", b"")
    mark = "//" if language == "javascript" else "#"
    assert carry_out(code(f"{mark} {'x' * (1 << 20)}\n{text}", language, stdin=b"in\0")) == ended


@pytest.mark.parametrize("language", ["javascript", "perl", "python"])
def test_a_byte_order_mark_is_no_error(language: str) -> None:
    text = {"javascript": "console.log(1)", "perl": "print 1, qq(\\n)", "python": "print(1)"}
    assert carry_out(code("\ufeff" + text[language], language)) == (0, b"1\n", b"")
