"""The supervisor's file server as a program of its own, for tests that need no sandbox.

It is built with the compiler's sanitizers, so a test that reads or writes past an end fails.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from stockade._entries import FileInfo, Misses, TreeItem
from stockade.file_backend import FileCall
from stockade.toolkit.supervised.files import SupervisedFiles

Items = list[TreeItem]

SOURCE = Path(__file__).parents[4] / "supervisor" / "src"
_MAIN = '#include "files.h"\nint main(int c, char **v) { return files_main(c, v); }\n'
_CHECKED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@functools.lru_cache(maxsize=2)
def built(*, sanitized: bool = True) -> str:
    """The program's path; skips where there is no C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler here")
    sources = sorted(SOURCE.glob("files*.[ch]"))
    text = b"".join(path.read_bytes() for path in sources)
    name = f"stockade-files-{hashlib.sha256(text).hexdigest()[:16]}{'-checked' * sanitized}"
    path = Path(tempfile.gettempdir(), name)
    if not path.exists():
        made = Path(f"{path}.{os.getpid()}")
        flags = _CHECKED if sanitized else ("-O2",)
        subprocess.run(
            [
                compiler,
                "-std=c11",
                "-D_GNU_SOURCE",
                "-Wall",
                "-Wextra",
                "-Werror",
                *flags,
                f"-I{SOURCE}",
                "-x",
                "c",
                "-",
                *map(str, SOURCE.glob("files*.c")),
                "-o",
                made,
            ],
            input=_MAIN.encode(),
            check=True,
        )
        made.replace(path)
    return str(path)


class Served:
    """``builtin`` over that program, as a link has it; ``argvs`` is what was asked."""

    def __init__(self, *, sanitized: bool = True, user: int | None = None) -> None:
        self._program = built(sanitized=sanitized)
        self._user = user
        self.argvs: list[list[bytes]] = []

    def __call__(
        self,
        argv: Sequence[str | bytes],
        *,
        stdin: Iterable[bytes] = (),
        receive: Callable[[bytes], None],
        timeout: float | None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[int, bytes]:
        words = [os.fsencode(word) for word in argv]
        self.argvs.append(words)
        process = subprocess.Popen(
            [self._program, *words[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        assert process.stdin and process.stdout and process.stderr
        errors: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(process, stdin, errors))
        ended: list[float] = []

        def end() -> None:
            ended.append(timeout or 0)
            process.kill()

        timer = threading.Timer(timeout or 1e6, end)
        timer.daemon = True
        timer.start()
        feeder.start()
        try:
            while data := process.stdout.read1(1 << 20):  # type: ignore[attr-defined]
                receive(data)
            said = process.stderr.read()
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
            timer.cancel()
            feeder.join()
            process.stdout.close()
            process.stderr.close()
        if ended:
            raise TimeoutError("the command took too long")
        if errors:
            raise errors[0]
        assert b"Sanitizer" not in said and b"runtime error" not in said, said.decode()
        return (128 - code if code < 0 else code), said


def _feed(
    process: subprocess.Popen[bytes], stdin: Iterable[bytes], errors: list[BaseException]
) -> None:
    assert process.stdin
    try:
        for data in stdin:
            process.stdin.write(data)
    except BrokenPipeError:
        pass
    except BaseException as error:
        errors.append(error)
        process.kill()
    finally:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass


class Inside:
    """Calls with the everyday arguments, in one folder."""

    def __init__(self, top: Path, served: Served) -> None:
        self.top = top
        self.served = served
        self.files = SupervisedFiles(served)

    def path(self, name: str) -> str:
        return f"{self.top}/{name}"

    def read(
        self, name: str, *, offset: int = 0, length: int | None = None, max_bytes: int = 1 << 20
    ) -> bytes:
        return self.files.read(
            self.path(name), FileCall(20), offset=offset, length=length, max_bytes=max_bytes
        )

    def write(
        self,
        name: str,
        *data: bytes,
        mode: int | None = None,
        append: bool = False,
        offset: int | None = None,
    ) -> None:
        self.files.write(
            self.path(name), data, FileCall(20), mode=mode, append=append, offset=offset
        )

    def list(self, name: str = "", max_entries: int = 10_000) -> dict[str, FileInfo]:
        found = self.files.list(self.path(name), FileCall(20), max_entries=max_entries)
        return {info.name: info for info in found}

    def stat(self, name: str, *, follow: bool = False) -> FileInfo:
        return self.files.stat(self.path(name), FileCall(20), follow_links=follow)

    def get(self, name: str = "", max_bytes: int = 1 << 20, max_entries: int = 1000) -> Items:
        found: Items = []
        self.files.get_tree(
            self.path(name),
            found.append,
            FileCall(20),
            max_bytes=max_bytes,
            max_entries=max_entries,
        )
        return found

    def put(self, name: str, *items: TreeItem) -> Misses:
        return self.files.put_tree(self.path(name), items, FileCall(20))

    def move(self, one: str, other: str) -> None:
        self.files.move(self.path(one), self.path(other), FileCall(20))

    def copy(self, one: str, other: str) -> Misses:
        return self.files.copy(self.path(one), self.path(other), FileCall(20))

    def remove(self, name: str, *, tree: bool = False) -> None:
        self.files.remove(self.path(name), FileCall(20), tree=tree)
