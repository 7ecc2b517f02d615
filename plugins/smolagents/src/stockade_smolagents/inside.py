"""What the interpreter inside is given: how a final answer leaves it.

An exception's text is cut, so the answer is displayed, in a form of its own, and the exception
only says that there is one.
"""

from __future__ import annotations

import copy
import inspect
import types
from typing import Any

from smolagents.serialization import SafeSerializer
from smolagents.tools import Tool
from smolagents.utils import get_source

__all__ = ["ANSWER", "FINAL", "IS_READY", "PRELUDE", "answering"]

#: The form in which an answer is displayed, and the exception that says so.
ANSWER = "text/vnd.stockade.final-answer"
FINAL = "FinalAnswerException"
#: Whose value says whether the prelude has run in this interpreter.
IS_READY = "__import__('builtins').__dict__.get('_stockade_answer') is not None"

_MODULE = f"""
import base64, json, pickle
from io import BytesIO
from typing import Any

class SerializationError(Exception):
    pass

{inspect.getsource(SafeSerializer)}

class {FINAL}(BaseException):
    pass

class Answer:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return "the final answer"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {{"{ANSWER}": self.text}}

def answer(value):
    display(Answer(SafeSerializer.dumps(value)))
    return {FINAL}("a final answer was given")
"""
#: Leaves no name in the agent's own.
PRELUDE = f"""
def _stockade_prelude():
    import builtins, types
    module = types.ModuleType("_stockade_answers")
    exec({_MODULE!r}, module.__dict__)
    builtins._stockade_answer = module.answer

_stockade_prelude()
del _stockade_prelude
"""


def answering(tool: Tool) -> Tool:
    """A copy of a final-answer tool that ends the step with its answer; the agent's own stays."""
    own = type(tool).forward

    class FinalAnswer(type(tool)):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            import builtins

            raise builtins._stockade_answer(self._forward(*args, **kwargs))  # type: ignore[attr-defined]

    renamed: Any = types.FunctionType(
        own.__code__, own.__globals__, "_forward", own.__defaults__, own.__closure__
    )
    renamed.__source__ = get_source(own).replace("def forward(", "def _forward(", 1)
    FinalAnswer._forward = renamed
    made: Tool = copy.copy(tool)
    made.__class__ = FinalAnswer
    return made
