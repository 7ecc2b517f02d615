"""Lowered requests started as the supervisor does: the text on descriptor 9, a clean start."""

from __future__ import annotations

import fcntl
import os
import subprocess
from typing import Any, NamedTuple

from stockade.toolkit.supervised.lowering import LoweredRequest, lower_request
from stockade.wall import ExecRequest, Form

__all__ = ["Ended", "carry_out", "code", "shell"]


class Ended(NamedTuple):
    status: int
    out: bytes
    err: bytes


def carry_out(lowered: LoweredRequest, program: tuple[str, ...] = ()) -> Ended:
    """Start it; ``program`` is in the place of the request's own, as another shell."""
    argv = [*(program or lowered.argv[:1]), *lowered.argv[1:]]
    # Descriptor 3 to 19 may be anything here; none of it is to be seen there.
    blob = os.memfd_create("blob")
    high = fcntl.fcntl(blob, fcntl.F_DUPFD_CLOEXEC, 50)
    os.close(blob)
    view = memoryview(lowered.blob or b"")
    while view:
        view = view[os.write(high, view) :]

    def place() -> None:
        os.dup2(high, 9)
        for descriptor in range(3, 50):
            if descriptor != 9 or lowered.blob is None:
                try:
                    os.set_inheritable(descriptor, False)
                except OSError:
                    pass

    try:
        ended = subprocess.run(
            argv,
            input=lowered.stdin,
            capture_output=True,
            cwd=lowered.cwd,
            env={"PATH": os.environ["PATH"], **lowered.env},
            close_fds=False,
            preexec_fn=place,
            start_new_session=True,
            timeout=60,
        )
    finally:
        os.close(high)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def code(script: str, language: str = "python", **fields: Any) -> LoweredRequest:
    fields = {"working_dir": "/", "execution_id": "x", **fields}
    return lower_request(ExecRequest(form=Form.CODE, script=script, language=language, **fields))


def shell(line: str, **fields: Any) -> LoweredRequest:
    fields = {"working_dir": "/", "execution_id": "x", **fields}
    return lower_request(ExecRequest(form=Form.SHELL, script=line, **fields))
