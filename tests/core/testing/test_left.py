"""Looking for what is left: a check that hangs inside keeps nobody else's folder."""

from __future__ import annotations

import tempfile
import threading

from stockade.testing.guard import in_time
from stockade.testing.machine.left import Leftovers


def test_what_hangs_inside_a_block_leaves_the_usual_folder_to_all_others() -> None:
    usual = tempfile.gettempdir()
    go, gone = threading.Event(), threading.Event()
    late: list[BaseException] = []

    def hang() -> None:
        with Leftovers():
            go.wait(60)
        try:
            with Leftovers():
                pass
        except TimeoutError as error:
            late.append(error)
        gone.set()

    assert isinstance(in_time(hang, 0.1, "C6: hangs"), TimeoutError)
    assert tempfile.gettempdir() == usual
    with Leftovers():
        inside = tempfile.gettempdir()
        go.set()
        assert gone.wait(60) and tempfile.gettempdir() == inside != usual
    assert late
    assert tempfile.gettempdir() == usual
