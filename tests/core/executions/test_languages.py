"""Which interpreter runs code (D1), and what finding it costs a sandbox."""

from __future__ import annotations

import pytest

import stockade
from core.walls import ScriptedSandbox, ScriptedWall
from stockade.errors import LanguageError
from stockade.results import Stream
from stockade.sessions._runtime import Runtime
from stockade.wall import ExecRequest, Exit, Form, Output, Running


class Silent(ScriptedSandbox):
    """Names no languages; what is looked for inside is found, as ``there`` says."""

    there = b"python3\nnode\n"
    known: str | None = None

    def languages(self) -> None:  # type: ignore[override]
        return None

    def interpreter(self, language: str) -> str | None:
        return self.known if language == "python" else None

    def start(self, request: ExecRequest, output: Output) -> Running:
        if request.form is Form.ARGV:
            output.write(Stream.STDOUT, self.there)
        return super().start(request, output)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[Silent, stockade.Session]:
    sandbox = Silent(lambda _running, _output: Exit(code=0))
    monkeypatch.setattr(ScriptedWall, "sandbox", sandbox)
    runtime = Runtime(discover_plugins=False)
    runtime.walls._walls["silent"] = ScriptedWall
    return sandbox, stockade.open("silent", runtime=runtime)


def test_one_that_the_sandbox_knows_is_not_looked_for(
    opened: tuple[Silent, stockade.Session],
) -> None:
    sandbox, session = opened
    sandbox.known = "/opt/python"
    with session:
        for _ in range(2):
            session.code("1")
        assert [(r.form, r.interpreter) for r in sandbox.requests] == [
            (Form.CODE, "/opt/python")
        ] * 2
        session.code("1", language="javascript")  # another is looked for, once
        session.code("1")
        with pytest.raises(LanguageError, match="python, javascript"):
            session.code("1", language="ruby")
    forms = [request.form for request in sandbox.requests]
    assert forms == [Form.CODE, Form.CODE, Form.ARGV, Form.CODE, Form.CODE]


def test_else_all_are_looked_for_once(opened: tuple[Silent, stockade.Session]) -> None:
    sandbox, session = opened
    with session:
        session.code("1")
        session.code("1")
    started = [(request.form, request.interpreter) for request in sandbox.requests]
    assert started == [(Form.ARGV, None), (Form.CODE, "python3"), (Form.CODE, "python3")]
