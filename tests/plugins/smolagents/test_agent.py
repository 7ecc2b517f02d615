"""Code agents whose model is scripted, with their code behind each wall."""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Iterator
from typing import Any

import PIL.Image
import pytest
from smolagents import CodeAgent, Tool, tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.utils import AgentError

import stockade
from conftest import need
from stockade_smolagents import StockadeExecutor

pytestmark = [pytest.mark.timeout(240)]
#: numpy and pillow of this environment, for Pythons inside of the same version.
PACKAGES: dict[str, Any] = {
    "mounts": [stockade.Mount(sysconfig.get_path("purelib"), "/opt/site")],
    "env_vars": {"PYTHONPATH": "/opt/site"},
}


class Scripted(Model):
    """Answers with these steps, one after another; what it was asked is kept."""

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self.model_id = "scripted"
        self.steps = list(steps)
        self.asked: list[str] = []

    def generate(self, messages: Any, *_: Any, **__: Any) -> ChatMessage:
        self.asked.append(str(messages[-1].content))
        code = self.steps.pop(0)
        return ChatMessage(role=MessageRole.ASSISTANT, content=f"So:\n<code>\n{code}\n</code>")


@tool
def double(number: int) -> int:
    """Twice as much.

    Args:
        number: what is doubled
    """
    import math

    return int(math.copysign(2 * abs(number), number))


class Where(Tool):  # type: ignore[no-untyped-call]
    name = "where"
    description = "Where tools run."
    inputs: dict[str, Any] = {}
    output_type = "string"

    def forward(self) -> str:
        import os

        return os.getcwd()


def agent(wall: str, *steps: str, tools: Any = (), **config: Any) -> CodeAgent:
    need(wall)
    name = f"{wall}:stockade-test/work" if wall in ("docker", "gvisor") else wall
    executor = StockadeExecutor(name, **config)
    return CodeAgent(
        tools=list(tools), model=Scripted(*steps), executor=executor, verbosity_level=-1
    )


def executor(**config: Any) -> StockadeExecutor:
    need("landlock")
    return StockadeExecutor("landlock", **config)


@pytest.fixture
def plain() -> Iterator[StockadeExecutor]:
    with executor() as made:
        agent = CodeAgent(tools=[], model=Scripted())
        made.send_tools({"final_answer": agent.tools["final_answer"]})
        yield made


@pytest.mark.parametrize("wall", ["landlock", "bubblewrap", "docker", "gvisor"])
def test_an_agent_from_its_task_to_its_answer(wall: str) -> None:
    steps = (
        "kept = double(given)\nprint('kept is', kept)",
        "1 / 0",
        "final_answer({'kept': kept, 'where': where(), 'pair': (1, {2})})",
    )
    tools = [double, Where()]  # type: ignore[no-untyped-call]
    with agent(wall, *steps, tools=tools) as one:
        answer = one.run("Do it.", additional_args={"given": 21})
        assert answer == {"kept": 42, "where": "/workspace", "pair": (1, {2})}
        asked = one.model.asked
        assert "kept is 42" in asked[1] and "ZeroDivisionError" in asked[2]
        # Again: the tools are sent once more, the agent's own final answer has stayed.
        one.model.steps = ["final_answer(double(kept))"]
        assert one.run("Go on.", reset=False) == 84
    assert not stockade.default_runtime().registry.records()


@pytest.mark.parametrize("wall", ["landlock", "docker"])
def test_pictures_come_back_and_go_in(wall: str) -> None:
    made = "import PIL.Image, numpy\npicture = PIL.Image.fromarray("
    made += "numpy.random.default_rng(1).integers(0, 255, (700, 700, 3), 'uint8'))"
    given = PIL.Image.new("RGB", (3, 2), "red")
    steps = (f"{made}\nprint(given.size, given.getpixel((0, 0)))\npicture", "final_answer(picture)")
    with agent(wall, *steps, **PACKAGES) as one:
        answer = one.run("Draw.", additional_args={"given": given})
        assert "(3, 2) (255, 0, 0)" in one.model.asked[1]
        shown = one.memory.steps[1].action_output
    assert isinstance(shown, PIL.Image.Image) and shown.size == (700, 700)
    assert answer.to_raw().size == (700, 700), (
        "of more than a MiB, which no error's text would hold"
    )


def test_values_that_are_no_json_are_refused_inside(plain: StockadeExecutor) -> None:
    with pytest.raises(AgentError, match="Cannot safely serialize object of type Own"):
        plain("class Own: pass\nfinal_answer(Own())")
    with pytest.raises(AgentError, match="may have 16 MiB at most"):
        plain("final_answer('x' * (17 << 20))")
    done = plain("final_answer([b'x', 1j])")
    assert done.is_final_answer and done.output == [b"x", 1j]


def test_an_interpreter_that_was_ended_starts_anew_with_its_tools() -> None:
    steps = (
        "kept = 1",
        "import time\nprint('so far', flush=True)\ntime.sleep(100)",
        "print('kept' in globals())",
        "import os\nos._exit(3)",
        "final_answer(double(3))",
    )
    with agent("landlock", *steps, tools=[double], timeout_seconds=2.0) as one:
        assert one.run("Do it.") == 6
        asked = one.model.asked
        assert "so far" in asked[2] and "timed out" in asked[2] and "are gone" in asked[2]
        assert "False" in asked[3] and "exit code 3" in asked[4]


def test_memory_is_an_error_of_the_step() -> None:
    with executor(memory_mb=128) as one, pytest.raises(AgentError, match="out of memory"):
        one("held = bytearray(300 * 1024 * 1024)")


def test_a_sandbox_that_was_lost_is_a_new_one() -> None:
    with executor() as one:
        one("kept = 1")
        assert one._opened is not None
        one._opened.close()
        assert one("'kept' in globals()").output == "False"


def test_nothing_of_this_machine_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    with executor() as one:
        done = one("import os\nprint(os.environ.get('HF_TOKEN'), os.path.exists('/root/.ssh'))")
        assert done.logs == "None False\n"


def test_long_logs_are_cut() -> None:
    with executor() as one:
        begun = time.monotonic()
        assert len(one("for i in range(10 ** 6): print(i)").logs) < 30_000
        assert time.monotonic() - begun < 60


def test_packages_that_are_not_there_are_named() -> None:
    with executor(additional_imports=["json", "no-such-thing==1.0"]) as one:
        with pytest.raises(AgentError, match="no-such-thing is not installed.*network_allow"):
            one("1")
    assert not stockade.default_runtime().registry.records()
    with executor(additional_imports=["numpy", "pillow", "json"], **PACKAGES) as one:
        assert one("import numpy; int(numpy.arange(3).sum())").output == "3"


@tool
def odd(number: int) -> int:
    """Needs what is nowhere.

    Args:
        number: anything
    """
    import no_such_thing

    return int(no_such_thing.odd(number))


def test_a_package_of_a_tool_is_looked_for_before_anything_else_has_run() -> None:
    with executor() as one, pytest.raises(AgentError, match="no_such_thing is not installed"):
        one.send_tools({"odd": odd})


def test_a_new_interpreter_has_the_variables_that_were_sent_last() -> None:
    with executor() as one:
        for number in (1, 2, 1):
            one.send_variables({"given": number})
        with pytest.raises(AgentError, match="exit code 3"):
            one("import os\nos._exit(3)")
        assert one("given").output == "1"


def test_managed_agents_are_refused(plain: StockadeExecutor) -> None:
    with pytest.raises(AgentError, match="helper: agents cannot be called"):
        plain.send_tools({"helper": CodeAgent(tools=[], model=Scripted())})  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", [stockade.CapacityError, stockade.PolicyRefusedError])
def test_what_no_wall_has_said_names_no_other_wall(
    kind: type[stockade.StockadeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise kind("no")

    monkeypatch.setattr(stockade, "open", refused)
    with pytest.raises(kind, match="^no$"):
        StockadeExecutor("local")("1")


def test_a_wall_that_cannot_says_which_can() -> None:
    need("docker")
    with StockadeExecutor("docker:stockade-test/busybox") as one:
        with pytest.raises(stockade.LanguageError, match="'python'.*Here these can: .*docker"):
            one("1")
    with StockadeExecutor("landlock", read_only_fs=False) as one:
        with pytest.raises(stockade.UnsupportedError, match="writable-root.*can: .*docker"):
            one("1")
    assert not stockade.default_runtime().registry.records()
