"""The unmodified code interpreter of E2B."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.server.serving import Served

interpreter = pytest.importorskip(
    "e2b_code_interpreter", reason="e2b-code-interpreter is not installed (tox -e server)"
)


@pytest.fixture(scope="module")
def sandbox(served: Served) -> Iterator[Any]:
    made = interpreter.Sandbox.create(timeout=300)
    yield made
    made.kill()


def test_variables_values_output_and_errors(sandbox: Any) -> None:
    sandbox.run_code("total = 40")
    found = sandbox.run_code("import sys\nprint('out'); print('err', file=sys.stderr)\ntotal + 2")
    assert found.text == "42" and found.error is None
    assert "".join(found.logs.stdout) == "out\n" and "".join(found.logs.stderr) == "err\n"
    failed = sandbox.run_code("1 / 0")
    assert failed.error.name == "ZeroDivisionError" and "division" in failed.error.value
    assert "Traceback" in failed.error.traceback
    assert sandbox.run_code("total").text == "40"
    assert sandbox.run_code("import os\nos.environ['A']", envs={"A": "x"}).text == "'x'"


def test_displays_have_their_forms(sandbox: Any) -> None:
    code = (
        "class Shown:\n"
        "    def _repr_html_(self): return '<b>1</b>'\n"
        "    def _repr_png_(self): return b'\\x89PNG'\n"
        "display(Shown())\n'main'"
    )
    shown, main = sandbox.run_code(code).results
    assert shown.html == "<b>1</b>" and shown.png.strip() == "iVBORw==" and not shown.is_main_result
    assert main.text == "'main'" and main.is_main_result


def test_contexts_are_apart_and_are_restarted_and_removed(sandbox: Any) -> None:
    context = sandbox.create_code_context(cwd="/tmp")
    assert sandbox.run_code("x = 1\nimport os\nos.getcwd()", context=context).text == "'/tmp'"
    assert sandbox.run_code("x", context=context).text == "1"
    assert sandbox.run_code("x").error.name == "NameError"
    assert context.id in [one.id for one in sandbox.list_code_contexts()]
    sandbox.restart_code_context(context)
    assert sandbox.run_code("x", context=context).error.name == "NameError"
    sandbox.remove_code_context(context)
    assert context.id not in [one.id for one in sandbox.list_code_contexts()]


def test_code_whose_caller_goes_away_is_interrupted_and_keeps_its_variables(sandbox: Any) -> None:
    sandbox.run_code("kept = 'kept'")
    with pytest.raises(Exception, match="timed out|timeout"):
        sandbox.run_code("import time\nwhile True: time.sleep(0.01)", timeout=1)
    assert sandbox.run_code("kept", timeout=20).text == "'kept'"


def test_bash_keeps_its_variables(sandbox: Any) -> None:
    sandbox.run_code("total=40", language="bash")
    found = sandbox.run_code("echo $((total + 2))", language="bash")
    assert "".join(found.logs.stdout) == "42\n"


def test_a_language_that_is_not_served_is_refused(sandbox: Any) -> None:
    with pytest.raises(Exception, match="501.*not served"):
        sandbox.run_code("1", language="java")


def test_the_awaited_interpreter(served: Served) -> None:
    async def work() -> None:
        made = await interpreter.AsyncSandbox.create(timeout=120)
        try:
            await made.run_code("total = 40")
            lines: list[str] = []
            found = await made.run_code(
                "print('out')\ntotal + 2", on_stdout=lambda one: lines.append(one.line)
            )
            assert found.text == "42" and "".join(lines) == "out\n"
            failed = await made.run_code("1 / 0")
            assert (
                failed.error.name == "ZeroDivisionError" and "Traceback" in failed.error.traceback
            )
            shown = await made.run_code(
                "class S:\n    def _repr_html_(self): return '<b>1</b>'\ndisplay(S())\n'main'"
            )
            assert [one.html for one in shown.results] == ["<b>1</b>", None]
            context = await made.create_code_context(cwd="/tmp")
            inside = await made.run_code("x = 1\nimport os\nos.getcwd()", context=context)
            assert inside.text == "'/tmp'"
            assert (await made.run_code("x")).error.name == "NameError"
            assert context.id in [one.id for one in await made.list_code_contexts()]
            await made.restart_code_context(context)
            assert (await made.run_code("x", context=context)).error.name == "NameError"
            await made.remove_code_context(context)
            assert context.id not in [one.id for one in await made.list_code_contexts()]
            with pytest.raises(Exception, match="timed out|timeout"):
                await made.run_code("import time\nwhile True: time.sleep(0.01)", timeout=1)
            assert (await made.run_code("total", timeout=20)).text == "40"
        finally:
            await made.kill()

    asyncio.run(work())
