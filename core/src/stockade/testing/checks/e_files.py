"""Checks of E, third part: files of the host, and files as a kernel has them (E2)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stockade.capabilities import Feature
from stockade.config import Mount
from stockade.session import Session
from stockade.testing import hostcalls
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import unique

__all__ = ["HostFiles"]


class HostFiles(ConformanceBase):
    """What the code inside can do to files, its own and others'."""

    @contextmanager
    def showing(self, folder: str) -> Iterator[tuple[Session, str]]:
        """A session that shows this folder of the host, read-only, and its path inside.

        By a mount; a wall that shows folders in another way overrides it.
        """
        self.need(Feature.MOUNTS)
        with self.session(mounts=(Mount(folder, "/mnt/shown"),)) as session:
            yield session, "/mnt/shown"

    def test_E2_no_call_changes_a_file_of_the_host(self) -> None:
        with _folder() as folder:
            hostcalls.lay_out(folder)
            with self.showing(str(folder)) as (session, place):
                before = hostcalls.look(folder)
                answers, _ = self._try_all(session, place)
                through = hostcalls.changed(before, hostcalls.look(folder))
                expect(not through, "E2", "the host's files as they were", through)
                expect(len(answers) == len(hostcalls.TRIES), "E2", "every call tried", answers)

    def test_E2_a_call_that_nobody_looked_at_is_not_there(self) -> None:
        self.need_a_wall()
        self.need(Feature.PROCESS_HARDENING)
        with self.shared() as session:
            _, known = self._try_all(session, session.provider.config.working_dir, tries=False)
            expect(
                not known,
                "E2",
                f"no call past number {hostcalls.NEWEST}, the newest that was looked at",
                known,
            )

    def _try_all(
        self, session: Session, place: str, *, tries: bool = True
    ) -> tuple[list[int], list[int]]:
        self.need_python(session)
        if not session.code("import ctypes, json").success:
            pytest.skip("the Python in this sandbox has no ctypes")
        result = session.code(hostcalls.program(place, tries=tries), timeout=self.scaled(50))
        expect(result.success, "E2", "a program that tries the calls", result)
        answers, known = json.loads(result.stdout)
        return answers, known

    def test_E2_files_behave_as_a_kernels_do(self) -> None:
        self.need(Feature.SHELL)
        name = unique("kernel")
        with self.shared() as session:
            place = f"{session.provider.config.working_dir}/{name}"
            session.shell(f"mkdir {place}")
            try:
                for what, line, wanted in self._behaviour():
                    result = session.shell(f"cd {place}; {line}", timeout=self.scaled(20))
                    seen = (result.exit_code, result.stdout)
                    expect(seen == wanted, "E2", f"{what}: {line!r} to give {wanted}", result)
            finally:
                session.shell(f"rm -rf {place}")

    def _behaviour(self) -> tuple[_Line, ...]:
        lines = _BEHAVIOUR
        if self.claims(Feature.PROCESS_HARDENING):
            lines += _UNPRIVILEGED
        if self.claims(Feature.READ_ONLY_ROOT):
            lines += _READ_ONLY
        return lines


#: What it is about, a line in a folder of its own (each sees the one before), code and output.
_Line = tuple[str, str, tuple[int, str]]
_BEHAVIOUR: tuple[_Line, ...] = (
    ("a link by its full path", "echo x > f; ln -s $PWD/f l; cat l", (0, "x\n")),
    ("a link upwards", "mkdir d; ln -s ../f d/up; cat d/up; cd d/..; cat f", (0, "x\nx\n")),
    ("a link that leads nowhere", "ln -s nowhere n; test -e n || test -L n", (0, "")),
    ("hard links share what they hold", "ln f h; echo y > h; cat f", (0, "y\n")),
    ("a file outlives one of its names", "rm h; cat f", (0, "y\n")),
    ("moving to another folder", "mv f d/g; cat d/g; test -e f", (1, "y\n")),
    ("a file that may not be run", "cp d/g s; chmod 644 s; ./s 2>&- || ( exit 3 )", (3, "")),
    ("test -x of it", "test -x s || echo no", (0, "no\n")),
    ("a script without #!", "echo 'echo run' > s; chmod 755 s; ./s", (0, "run\n")),
    ("what is not there", "cat no/file 2>&1 | grep -c 'No such file'", (0, "1\n")),
    ("what is not there, from the root", "cat /no/f 2>&1 | grep -c 'No such file'", (0, "1\n")),
    ("below a file", "cat d/g/x 2>&1 | grep -c 'Not a directory'", (0, "1\n")),
    ("an output by its name", "echo a > /dev/stdout; echo b > /dev/stderr", (0, "a\n")),
    ("the input by its name", "echo c | cat /dev/stdin", (0, "c\n")),
    ("a full device", "echo x 2>&- > /dev/full || echo full", (0, "full\n")),
    ("a pipe with a name", "mkfifo p; echo through > p & cat p", (0, "through\n")),
    ("the folder above", "cd ..; test -e $OLDPWD/s && echo there", (0, "there\n")),
)
_UNPRIVILEGED: tuple[_Line, ...] = (
    ("a file that may not be read", "chmod 000 s; cat s 2>&- || echo no", (0, "no\n")),
    ("a folder that is closed", "chmod 555 d; (: > d/new) 2>&- || echo no", (0, "no\n")),
    ("the same, opened again", "chmod 755 d; : > d/new && echo yes", (0, "yes\n")),
)
_READ_ONLY: tuple[_Line, ...] = (
    ("a place that cannot be written to says so", "test -w / || echo no", (0, "no\n")),
)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this user's that others may look into too: not in a place such as /tmp, of
    which sandboxes have one of their own."""
    for parent in (os.getcwd(), os.path.expanduser("~")):
        real = Path(os.path.realpath(parent))
        away = not real.is_relative_to("/tmp") and not real.is_relative_to("/var/tmp")
        if away and os.access(real, os.W_OK) and _open_to_all(real):
            with tempfile.TemporaryDirectory(prefix=".stockade-", dir=real) as name:
                os.chmod(name, 0o755)
                yield Path(name)
            return
    pytest.skip("neither this folder nor the home is one that a sandbox could be shown")


def _open_to_all(path: Path) -> bool:
    """Whether root's sandboxes, which are nobody, may come here; a user's are the user."""
    if os.geteuid() != 0:
        return True
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
