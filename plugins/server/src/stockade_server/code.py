"""The code interpreter's service: code in contexts that keep their variables."""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import attrs

from stockade.aio import AsyncSession
from stockade.errors import StockadeError
from stockade.results import Display, SandboxResult, Verdict
from stockade_server.connect import text_of, texts_of
from stockade_server.errors import Refused, not_served, refusal
from stockade_server.pumping import Pump

__all__ = ["Contexts"]

_MOST_CONTEXTS = 32
_MOST_PATH = 4096
#: Seconds that interrupted code has to end before it is ended, its variables with it.
_INTERRUPT_SECONDS = 5.0
_LANGUAGES = {"python": "python", "javascript": "javascript", "js": "javascript", "bash": "bash"}
#: A display's type to the protocol's word.
_WORDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/latex": "latex",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "application/json": "json",
    "application/javascript": "javascript",
}


@attrs.define(eq=False)
class Context:
    """An interpreter that keeps its variables."""

    context_id: str
    language: str
    cwd: str
    count: int = 0  #: how often code ran in it
    #: One piece of code at a time, in the order in which it came.
    turn: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    def listed(self) -> dict[str, str]:
        return {"id": self.context_id, "language": self.language, "cwd": self.cwd}


class Contexts:
    """Those of one sandbox; one a language is there from the start."""

    def __init__(self, session: AsyncSession, env: Mapping[str, str], working_dir: str) -> None:
        """``env``: variables of all code, below its caller's own."""
        self._session = session
        self._env = env
        self._working_dir = working_dir
        self._known: dict[str, Context] = {}
        self._last = 0
        self._ending: set[asyncio.Task[None]] = set()

    # -- contexts ------------------------------------------------------------------

    def listed(self) -> list[dict[str, str]]:
        """All, the languages' own where they have been used."""
        return [one.listed() for one in self._known.values()]

    def make(self, body: Mapping[str, Any]) -> dict[str, str]:
        """A new one; its interpreter starts with its first code."""
        language = _language(body)
        cwd = text_of(body, "cwd", "") or self._working_dir
        if len(cwd) > _MOST_PATH:
            raise Refused(400, f"cwd is a path of {_MOST_PATH} characters at most")
        self._last += 1
        return self._add(f"context-{self._last}", language, cwd).listed()

    async def remove(self, context_id: str) -> None:
        """End a context's interpreter, and forget it."""
        await self.restart(context_id)
        self._known.pop(context_id, None)

    async def restart(self, context_id: str) -> None:
        """End a context's interpreter; its next code finds a new one."""
        context = self._named(context_id)
        if context.count:
            await self._session.restart(context.context_id, context.language)
            context.count = 0

    def _add(self, context_id: str, language: str, cwd: str) -> Context:
        if len(self._known) >= _MOST_CONTEXTS:
            raise Refused(429, f"there are {_MOST_CONTEXTS} contexts; remove one first")
        context = self._known[context_id] = Context(context_id, language, cwd)
        return context

    def _named(self, context_id: str) -> Context:
        context = self._known.get(context_id)
        if context is None:
            raise Refused(404, f"there is no context {context_id!r:.80}")
        return context

    def chosen(self, body: Mapping[str, Any]) -> Context:
        """The context in which a request's code runs."""
        if body.get("context_id") is not None:
            return self._named(text_of(body, "context_id"))
        language = _language(body)
        name = f"default-{language}"
        return self._known.get(name) or self._add(name, language, self._working_dir)

    # -- executing -----------------------------------------------------------------

    def execute(self, context: Context, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """``POST /execute``: a line of JSON for each thing that comes.

        Code whose caller goes away is interrupted; its variables stay where it listens. Raises
        Refused for what is no request, before anything comes.
        """
        return self._lines(context, text_of(body, "code"), texts_of(body, "env_vars"))

    async def _lines(
        self, context: Context, code: str, env: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        try:
            pump = await self._begin(context, code, env)
        except Exception as error:
            yield self._refused(error)
            yield _END
            return
        listener = pump.listen()
        decoders = {kind: _decoder() for kind in ("stdout", "stderr")}
        try:
            yield _line({"type": "number_of_executions", "execution_count": context.count})
            while (piece := await listener.take()) is not None:
                kind, data = piece
                if text := decoders[kind].decode(data):
                    yield _output(kind, text)
            for kind, decoder in decoders.items():
                if text := decoder.decode(b"", final=True):
                    yield _output(kind, text)
            for line in self._shown(pump):
                yield line
            yield _END
        finally:
            listener.close()
            if not pump.over:
                self._end_later(pump)

    async def _begin(self, context: Context, code: str, env: dict[str, str]) -> Pump:
        await context.turn.acquire()
        try:
            execution = await self._session.stream(
                code=code,
                language=context.language,
                state=context.context_id,
                env={**self._env, **env},
                working_dir=context.cwd,
                timeout=None,
            )
        except BaseException:
            context.turn.release()
            raise
        context.count += 1
        return Pump(execution, context.turn.release)

    def _refused(self, error: BaseException) -> bytes:
        """An error of the code's own. Raises Refused where the sandbox is gone."""
        refused = refusal(error, self._session.session_id)
        if refused.status == 502:
            raise refused
        return _line(_said(type(error).__name__, refused.message))

    def _shown(self, pump: Pump) -> list[bytes]:
        try:
            result = pump.outcome()
        except Exception as error:
            return [self._refused(error)]
        lines = [_line(_result(one, main=False)) for one in result.displays]
        if result.value is not None:
            lines.append(_line(_result(result.value, main=True)))
        said = _error(result)
        return lines if said is None else [*lines, _line(said)]

    def _end_later(self, pump: Pump) -> None:
        """The caller went away: end what it alone was running."""
        task = asyncio.ensure_future(self._interrupted(pump))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _interrupted(self, pump: Pump) -> None:
        try:  # this code alone: the next in its context may have begun by now
            await asyncio.to_thread(pump.execution.interrupt)
            await asyncio.wait_for(pump.wait(), _INTERRUPT_SECONDS)
        except (StockadeError, asyncio.TimeoutError):
            pump.execution.cancel()


def _language(body: Mapping[str, Any]) -> str:
    asked = text_of(body, "language", "python") or "python"
    language = _LANGUAGES.get(asked.lower())
    if language is None:
        served = "python, javascript and bash are"
        raise not_served(f"the language {asked!r:.40}", f"{served}; run others as a command")
    return language


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


_END = _line({"type": "end_of_execution"})


def _output(kind: str, text: str) -> bytes:
    return _line({"type": kind, "text": text, "timestamp": time.time_ns()})


def _result(shown: Display, *, main: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "result", "is_main_result": main}
    extra: dict[str, str] = {}
    for mime, content in shown.data.items():
        text = content if isinstance(content, str) else base64.b64encode(content).decode()
        word = _WORDS.get(mime)
        if word == "json":
            try:
                found["json"] = json.loads(text)
                json.dumps(found["json"], allow_nan=False)
                continue
            except (ValueError, RecursionError):  # code inside says what it likes
                found.pop("json", None)
                word = None
        if word is None:
            extra[mime] = text
        else:
            found[word] = text
    if extra:
        found["extra"] = extra
    return found


def _error(result: SandboxResult) -> dict[str, Any] | None:
    caught = result.error
    if caught is not None:
        return _said(caught.name, caught.message, caught.traceback)
    if result.verdict is not Verdict.EXITED:
        name = "".join(word.capitalize() for word in str(result.verdict).split())
        return _said(name, f"the code was ended: {result.kill_reason}; its variables are gone")
    if result.exit_code != 0:
        return _said("SystemExit", f"the interpreter exited with {result.exit_code}")
    return None


def _said(name: str, value: str, traceback: str = "") -> dict[str, Any]:
    return {"type": "error", "name": name, "value": value, "traceback": traceback or value}
