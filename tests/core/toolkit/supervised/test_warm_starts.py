"""Interpreters that start slowly or never: executions that none has begun."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from stockade.executions._output import BoundedOutput
from stockade.results import Stream
from stockade.toolkit.supervised import Link, StartRequest
from stockade.toolkit.supervised.ends import End
from stockade.toolkit.supervised.execution import LinkExecution
from stockade.toolkit.supervised.request import Flag
from stockade.toolkit.supervised.starting import Starter
from stockade.wall import ExecRequest, Form


def never_ready(link: Link, folder: Path) -> LinkExecution:
    """Code for an interpreter that never comes to it."""
    program = folder / "python"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    link.source("boot", "text")
    request = StartRequest(argv=[str(program), "-c", ""], flags=Flag.WARM, blob=b"print(1)")
    return link.start(request, BoundedOutput(1000))


def test_D6_code_that_has_not_begun_is_ended(link: Link, tmp_path: Path) -> None:
    execution = never_ready(link, tmp_path)
    time.sleep(0.2)
    execution.kill()
    assert execution.settled(5)
    end = execution.wait(lambda: None)
    assert isinstance(end, End) and end.status == 9
    until = time.monotonic() + 10
    while link.counts(5)[1] and time.monotonic() < until:
        time.sleep(0.02)  # the last one's keeper ends after it
    assert link.counts(5)[1] == 0
    link.forget(execution)


def test_D6_code_is_ended_before_its_interpreter_is_there(link: Link, tmp_path: Path) -> None:
    for _ in range(20):
        execution = never_ready(link, tmp_path)
        execution.kill()
        assert execution.settled(5)
        link.forget(execution)
    assert link.counts(5)[1] == 0


def test_the_first_code_has_the_next_find_an_interpreter(link: Link) -> None:
    """It starts cold itself, as that takes less time; nothing waits before code was asked for."""
    starter = Starter(link)
    idle = link.counts(5)[0]

    def run(text: str) -> str:
        output = BoundedOutput(1000)
        request = ExecRequest(
            execution_id="1",
            form=Form.CODE,
            script=text,
            language="python",
            interpreter=sys.executable,
            working_dir="/",
            timeout_seconds=30.0,
        )
        started = starter.start(request, output)
        end = started.execution.wait(lambda: None)
        assert isinstance(end, End) and end.status == 0, output.data(Stream.STDERR)
        link.forget(started.execution)
        started.ended()
        return output.data(Stream.STDOUT).decode().strip()

    parent = "import os; print(open(f'/proc/{os.getppid()}/cmdline').read().count(\"run()\"))"
    assert run(parent) == "0"
    until = time.monotonic() + 20
    while link.counts(5)[0] < idle + 3 and time.monotonic() < until:
        time.sleep(0.02)  # its keeper, the interpreter, the child that it has made ahead
    for _ in range(3):
        assert run(parent) == "1"
    # An end is reported when all that was written is there, a moment before the streams' ends.
    while link.counts(5)[1] and time.monotonic() < until:
        time.sleep(0.02)
    assert link.counts(5)[1] == 0
