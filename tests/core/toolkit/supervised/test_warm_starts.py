"""Interpreters that take their time to start, or never do: jobs that nobody has begun with."""

from __future__ import annotations

import time
from pathlib import Path

from stockade.executions._output import BoundedOutput
from stockade.toolkit.supervised import Link, Order
from stockade.toolkit.supervised.call import Call, End
from stockade.toolkit.supervised.link import Flag


def never_ready(link: Link, folder: Path) -> Call:
    """Code for an interpreter that never comes to it."""
    program = folder / "python"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    link.source("boot", "text")
    order = Order(argv=[str(program), "-c", ""], flags=Flag.WARM, blob=b"print(1)")
    return link.start(order, BoundedOutput(1000))


def test_D6_code_that_has_not_begun_is_ended(link: Link, tmp_path: Path) -> None:
    call = never_ready(link, tmp_path)
    time.sleep(0.2)
    call.kill()
    assert call.settled(5)
    end = call.wait(lambda: None)
    assert isinstance(end, End) and end.status == 9
    assert link.counts(5)[1] == 0
    link.forget(call)


def test_D6_code_is_ended_before_its_interpreter_is_there(link: Link, tmp_path: Path) -> None:
    for _ in range(20):
        call = never_ready(link, tmp_path)
        call.kill()
        assert call.settled(5)
        link.forget(call)
    assert link.counts(5)[1] == 0
