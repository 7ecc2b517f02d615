"""The executor: smolagents' interface over a named interpreter in a session of stockade's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smolagents.local_python_executor import CodeOutput
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.tools import Tool
from smolagents.utils import AgentError, truncate_content

import stockade
from stockade import SandboxResult, Session, SessionStatus
from stockade.errors import (
    CapacityError,
    ConfigError,
    PolicyError,
    PolicyRefusedError,
    ProviderStringError,
    StockadeError,
)
from stockade_smolagents.answers import BadAnswer, answer_of, value_of
from stockade_smolagents.inside import ANSWER, FINAL, IS_READY, PRELUDE, answering

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from stockade.config import ConfigOptions

__all__ = ["StockadeExecutor"]

_AGENT = "smolagents"
_STATE = "agent"  #: the interpreter's name
_NEEDS = ("code", "stateful", "notebook")
_GONE = (SessionStatus.DESTROYING, SessionStatus.DESTROYED, SessionStatus.FAILED)
#: What one step may display and answer, in bytes; more than pictures of plots need.
_ANSWER_BYTES = 16 << 20
_INSTALL_SECONDS = 600.0
_PACKAGES = "/tmp/packages"


class StockadeExecutor(RemotePythonExecutor):
    """Give it to a ``CodeAgent`` as ``executor``.

    ``provider`` is a provider string, or several with ``|`` between them; by default
    STOCKADE_PROVIDER, else ``local``. ``additional_imports`` are packages that the code needs
    (as the agent's own option is for the prompt alone then); ``config`` are fields of
    stockade's configuration. The session is opened at the first step, and ends with
    ``cleanup``, which the agent calls at its own end.
    """

    def __init__(
        self,
        provider: str | None = None,
        *,
        additional_imports: Iterable[str] = (),
        logger: AgentLogger | None = None,
        **config: Unpack[ConfigOptions],
    ) -> None:
        super().__init__(
            list(additional_imports), logger or AgentLogger(LogLevel.INFO), allow_pickle=False
        )
        self._provider = provider
        self._config: dict[str, Any] = {**config}
        self._opened: Session | None = None
        self._setup: dict[str, None] = {}  # what was sent, for an interpreter that starts anew
        self._sending = False

    # -- what an agent calls ---------------------------------------------------

    def send_tools(self, tools: Mapping[str, Tool]) -> None:
        """Define them inside. Raises AgentError where they need packages that are not there."""
        others = [name for name, tool in tools.items() if not isinstance(tool, Tool)]
        if others:
            raise AgentError(
                f"{', '.join(others)}: agents cannot be called from code that runs elsewhere; "
                "take managed agents out, or make a tool of each.",
                self.logger,
            )
        sent = {
            name: answering(tool) if name == "final_answer" else tool
            for name, tool in tools.items()
        }
        self._send(lambda: super(StockadeExecutor, self).send_tools(sent))

    def send_variables(self, variables: Mapping[str, Any]) -> None:
        """Define them inside; values that smolagents can write as JSON."""
        self._send(lambda: super(StockadeExecutor, self).send_variables(dict(variables)))

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        """Run one step. What nobody caught, and what ended the program, is an AgentError."""
        session = self._session()
        if self._sending:
            self._setup.pop(code, None)  # what is sent again comes last again
            self._setup[code] = None
        result = session.code(code, state=_STATE, output_limit_bytes=_ANSWER_BYTES)
        logs = truncate_content(_printed(result))
        try:
            return self._output(result, logs)
        except BadAnswer as error:
            raise AgentError(f"{logs}\n{error}", self.logger) from error

    def install_packages(self, additional_imports: list[str]) -> list[str]:
        """See that packages are there; with a network those that are not are installed."""
        session = self._session()
        names = [re.split(r"[^\w-]", name, maxsplit=1)[0] for name in additional_imports]
        missing = [name for name in dict.fromkeys(names) if name and not _has(session, name)]
        if missing:
            self._install(session, missing)
        return list(additional_imports)

    def cleanup(self) -> None:
        """End the sandbox; may be called again."""
        session, self._opened = self._opened, None
        if session is not None:
            session.close()

    def delete(self) -> None:
        """As ``cleanup``, by the name that others of smolagents' executors have."""
        self.cleanup()

    def __enter__(self) -> StockadeExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cleanup()

    # -- the session -------------------------------------------------------------

    def _session(self) -> Session:
        """The session, with an interpreter that has all that was sent."""
        session = self._opened
        if session is not None and session.status in _GONE:
            self.cleanup()
            session = None
        if session is None:
            session = self._opened = self._open()
        ready = session.code(IS_READY, state=_STATE)
        if ready.value is None or ready.value.text != "True":
            for code in (PRELUDE, *self._setup):
                done = session.code(code, state=_STATE)
                if done.error is not None or not done.success:
                    raise AgentError(f"setting up failed: {_why(done)}", self.logger)
        return session

    def _open(self) -> Session:
        try:
            session = stockade.open(self._provider, agent_id=_AGENT, needs=_NEEDS, **self._config)
        except (ConfigError, ProviderStringError):
            raise  # wrong behind every wall
        except (CapacityError, PolicyError, PolicyRefusedError):
            raise  # said by the moment or a policy, and not by the wall
        except StockadeError as error:
            error.args = (f"{error} {self._able()}",)
            raise
        try:
            session.code("pass", state=_STATE)
            self._opened = session
            self.logger.log(f"Code runs behind {session.provider.name}", level=LogLevel.INFO)
            self.installed_packages = self.install_packages(self.additional_imports)
        except BaseException as error:
            self._opened = None
            session.close()
            if isinstance(error, stockade.LanguageError):
                error.args = (f"{error} {self._able()}",)
            raise
        return session

    def _able(self) -> str:
        found = stockade.suitable_providers(needs=_NEEDS, **self._config)
        return f"Here these can: {', '.join(found) or 'none'}."

    def _send(self, send: Any) -> None:
        self._sending = True
        try:
            send()
        finally:
            self._sending = False

    def _patch_final_answer_with_exception(self, final_answer_tool: Tool) -> None:
        """Nothing: ``answering`` has made one that gives answers of any size."""

    # -- packages ------------------------------------------------------------------

    def _install(self, session: Session, names: list[str]) -> None:
        config = session.provider.config
        if not (config.network_enabled or config.network_allow):
            raise AgentError(
                f"{', '.join(names)} is not installed behind {session.provider.name}, and it has "
                "no network: take an image that has it, or open the index: network_allow="
                "['pypi.org', 'files.pythonhosted.org'].",
                self.logger,
            )
        argv = ["python3", "-m", "pip", "install", "-q", "--target", _PACKAGES, *names]
        done = session.run(argv, timeout=_INSTALL_SECONDS)
        if not done.success:
            raise AgentError(f"installing {', '.join(names)} failed: {_why(done)}", self.logger)
        path = f"import sys\n{_PACKAGES!r} in sys.path or sys.path.insert(0, {_PACKAGES!r})\n"
        self._setup = {path: None, **self._setup}
        session.code(path, state=_STATE)

    # -- results ---------------------------------------------------------------------

    def _output(self, result: SandboxResult, logs: str) -> CodeOutput:
        error = result.error
        if error is not None and error.name == FINAL:
            answers = [one.data[ANSWER] for one in result.displays if ANSWER in one.data]
            if not answers:
                most = f"{_ANSWER_BYTES >> 20} MiB"
                raise BadAnswer(f"the final answer did not arrive; it may have {most} at most")
            return CodeOutput(output=answer_of(str(answers[-1])), logs=logs, is_final_answer=True)
        if error is not None:
            raise AgentError(
                f"{logs}\nExecuting code yielded an error:\n{error.name}\n{error.message}\n"
                f"{error.traceback}",
                self.logger,
            )
        if not result.success:
            raise AgentError(
                f"{logs}\nThe code was ended: {_why(result)}. Variables of earlier steps are gone.",
                self.logger,
            )
        shown = result.value or next((one for one in result.displays if one.png), None)
        value = None if shown is None else value_of(shown)
        return CodeOutput(output=value, logs=logs, is_final_answer=False)


def _has(session: Session, name: str) -> bool:
    """Whether the package is inside."""
    module = "PIL" if name == "pillow" else name.replace("-", "_")
    look = f"__import__('importlib.util').util.find_spec({module!r}) is not None"
    found = session.code(look, state=_STATE)
    return found.value is not None and found.value.text == "True"


def _printed(result: SandboxResult) -> str:
    """Both streams, without the traceback that comes by itself."""
    said = result.stderr
    if result.error is not None:
        said = said.replace(result.error.traceback.strip(), "").strip()
    return result.stdout + (f"\n{said}" if said else "")


def _why(result: SandboxResult) -> str:
    if result.error is not None:
        return f"{result.error.name}: {result.error.message}"
    said = result.stderr.strip()[-500:]
    return f"{result.verdict}, exit code {result.exit_code}" + (f": {said}" if said else "")
