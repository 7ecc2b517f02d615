"""A task whose model is inspect's mock: it calls tools and then answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inspect_ai
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import Model, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash, bash_session, python, text_editor

__all__ = ["EVERY_TOOL", "model", "run", "task"]

#: Of the injected tools the text editor, and a shell that is kept.
EVERY_TOOL: list[tuple[str, dict[str, Any]]] = [
    ("bash", {"command": "cat data.txt && cat made-by-setup"}),
    ("python", {"code": "print(6 * 7)"}),
    ("text_editor", {"command": "create", "path": "/workspace/x.py", "file_text": "seen = 1\n"}),
    ("bash", {"command": "cat x.py"}),
    ("bash_session", {"action": "type_submit", "input": "echo session $((40+2))"}),
    ("bash", {"command": "echo so far; sleep 1000"}),
]


def model(calls: list[tuple[str, dict[str, Any]]]) -> Model:
    outputs = [ModelOutput.for_tool_call("mockllm/model", name, given) for name, given in calls]
    outputs.append(ModelOutput.from_content("mockllm/model", "42"))
    for output in outputs:
        output.usage = ModelUsage()  # else inspect counts tokens with a file from the network
    return get_model("mockllm/model", custom_outputs=outputs)


def task(**fields: Any) -> Task:
    sample = Sample(
        input="Do it.",
        target="42",
        files={"data.txt": "from the dataset\n"},
        setup="echo by setup > made-by-setup",
    )
    tools = [bash(timeout=3), python(timeout=60), text_editor(timeout=120), bash_session()]
    return Task(
        dataset=[sample], solver=[use_tools(tools), generate()], scorer=includes(), **fields
    )


def run(
    folder: Path, sandbox: Any, calls: list[tuple[str, dict[str, Any]]], **options: Any
) -> tuple[EvalLog, list[tuple[str, str]]]:
    """The log, and what each tool gave: its text, or the kind of its error."""
    [log] = inspect_ai.eval(
        task(), model=model(calls), sandbox=sandbox, log_dir=str(folder), display="none", **options
    )
    messages = log.samples[0].messages if log.samples else []
    gave = [
        (str(one.function), one.error.type if one.error else one.text)
        for one in messages
        if one.role == "tool"
    ]
    return log, gave
