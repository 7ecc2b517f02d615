"""Starting a VM, with the package's own part played: what is tried again, and what is not."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("stockade_microsandbox", reason="pip install stockade-microsandbox (tox -e vm)")
microsandbox = pytest.importorskip("microsandbox", reason="pip install stockade-microsandbox")

_LATE = "selected msb runtime does not support network.http.deny_response; upgrade msb"


def _started(
    monkeypatch: pytest.MonkeyPatch, *answers: object, seconds: float = 60
) -> tuple[object, int]:
    """What came of the starts that answer so, within a time, and how many there were."""
    from stockade_microsandbox import sandbox

    left = list(answers)

    async def create(*_: Any) -> object:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(sandbox, "_create", create)
    request: Any = None
    try:
        got: object = sandbox._created(
            "name", "image", "never", request, time.monotonic() + seconds
        )
    except Exception as error:
        got = error
    return got, len(answers) - len(left)


def test_a_late_answer_about_the_monitor_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = microsandbox.UnsupportedError(_LATE)
    assert _started(monkeypatch, late, late, late, late, "vm") == ("vm", 5)
    assert _started(monkeypatch, late, "vm", seconds=0) == (late, 1)


def test_what_is_refused_for_another_reason_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (microsandbox.UnsupportedError("no such volume"), OSError("full")):
        assert _started(monkeypatch, other, "vm") == (other, 1)
