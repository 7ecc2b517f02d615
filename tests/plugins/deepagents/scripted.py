"""A chat model that says what a script says: it calls tools, and then answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

__all__ = ["Scripted", "said"]

#: A tool and its arguments, or what makes them of the conversation so far.
Step = tuple[str, dict[str, Any]] | Callable[[list[BaseMessage]], tuple[str, dict[str, Any]]]


class Scripted(BaseChatModel):
    """Calls the tools in order, one a turn, and says "done" after the last."""

    script: list[Any] = Field(default_factory=list)
    turn: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.turn == len(self.script):
            answer = AIMessage("done")
        else:
            step = self.script[self.turn]
            name, arguments = step(messages) if callable(step) else step
            call = {"name": name, "args": arguments, "id": f"call-{self.turn}"}
            answer = AIMessage("", tool_calls=[call])
        self.turn += 1
        return ChatResult(generations=[ChatGeneration(message=answer)])


def said(messages: Sequence[BaseMessage]) -> list[str]:
    """What the tools returned, as the model reads it, in order."""
    return [str(one.text) for one in messages if isinstance(one, ToolMessage)]
