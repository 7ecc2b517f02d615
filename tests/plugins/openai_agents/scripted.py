"""A model of the SDK's that says what a script says: it calls tools, and then answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse, Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

__all__ = ["Scripted"]


class Scripted(Model):
    """Calls the tools in order, one a turn, and says "done" after the last."""

    def __init__(self, script: list[Any]) -> None:
        """``script``: names and arguments, or what makes them of what the tools returned."""
        self.script = script
        self.turn = 0
        self.heard: list[str] = []

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
        items = [] if isinstance(input, str) else input
        self.heard = [str(one["output"]) for one in items if one.get("type", "").endswith("output")]
        self.turn += 1
        return ModelResponse(output=[self._said()], usage=Usage(), response_id=None)

    def _said(self) -> Any:
        if self.turn > len(self.script):
            text = ResponseOutputText(annotations=[], text="done", type="output_text")
            return ResponseOutputMessage(
                id="msg", content=[text], role="assistant", status="completed", type="message"
            )
        step = self.script[self.turn - 1]
        name, arguments = step(self.heard) if callable(step) else step
        return ResponseFunctionToolCall(
            name=name,
            arguments=json.dumps(arguments),
            call_id=f"call-{self.turn}",
            type="function_call",
        )

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
