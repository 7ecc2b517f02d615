"""What each hook's call makes of answers and failures; see :mod:`stockade.policies._guards`."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import pluggy

from stockade._proposals import (
    ExecutionProposal,
    JudgedExecution,
    Refuse,
    RequestProposal,
    SessionProposal,
    Tighten,
    loosened,
)
from stockade.config import SandboxConfig
from stockade.errors import (
    ConfigError,
    MiddlewareError,
    PolicyError,
    PolicyRefusedError,
    StockadeError,
)
from stockade.events import Event
from stockade.policies._guards import Guard, Who
from stockade.results import SandboxResult
from stockade.system.interrupts import is_interrupt
from stockade.values.shown import named

__all__ = [
    "Collecting",
    "ExecutionJudging",
    "Notifying",
    "Passing",
    "RequestJudging",
    "SessionJudging",
]

_log = logging.getLogger(__name__)
_N = TypeVar("_N", bound=float)
_P = TypeVar("_P", SessionProposal, ExecutionProposal, RequestProposal)


class _Judging(Guard, Generic[_P]):
    """Policies, one after the other, each given what those before left.

    The first refusal ends the asking, and stands: what a wrapper makes of it is not used.
    """

    def __init__(self, hook: str, proposal: _P) -> None:
        super().__init__(hook)
        self.proposal: _P = proposal
        self._refusal: StockadeError | None = None

    def judge(self, hook: pluggy.HookCaller) -> _P:
        """The proposal as the policies leave it. Raises PolicyRefusedError, PolicyError."""
        try:
            self.call(hook, proposal=self.proposal)
        except BaseException:
            if self._refusal is None:
                raise
        if self._refusal is not None:
            raise self._refusal
        return self.proposal

    def given(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.proposal,) if arguments else ()

    def answered(self, who: Who, answer: object) -> object:
        if isinstance(answer, Refuse):
            self._refuse(PolicyRefusedError(f"policy {who} refuses: {answer.reason}"))
        if answer is not None:
            try:
                self.proposal = self.tightened(who, answer)
            except PolicyError as error:
                self._refuse(error)
        return answer

    def failed(self, who: Who, error: BaseException) -> object:
        if self._refusal is None and not is_interrupt(error):
            self._refusal = PolicyError(
                f"policy {who} failed, so nothing was started: {named(error)}. {who.remedy}"
            )
            self._refusal.__cause__ = error
            raise self._refusal
        raise error

    def _refuse(self, refusal: StockadeError) -> None:
        self._refusal = self._refusal or refusal
        raise refusal

    @abc.abstractmethod
    def tightened(self, who: Who, answer: object) -> _P:
        """The proposal with a policy's answer. Raises PolicyError for what is none."""


class SessionJudging(_Judging[SessionProposal]):
    """One call of ``stockade_session_policy``."""

    def __init__(self, proposal: SessionProposal) -> None:
        super().__init__("stockade_session_policy", proposal)

    def tightened(self, who: Who, answer: object) -> SessionProposal:
        if not isinstance(answer, SandboxConfig):
            raise PolicyError(_of_another_type(who, answer, "None, a SandboxConfig or Refuse"))
        looser = loosened(answer, self.proposal.config)
        if looser:
            raise PolicyError(
                f"policy {who} would loosen {', '.join(looser)}; a policy may only tighten. "
                f"{who.remedy}"
            )
        return attrs.evolve(self.proposal, config=answer)


class ExecutionJudging(_Judging[ExecutionProposal]):
    """One call of ``stockade_execution_policy``."""

    def __init__(self, proposal: ExecutionProposal) -> None:
        super().__init__("stockade_execution_policy", proposal)

    def tightened(self, who: Who, answer: object) -> ExecutionProposal:
        if not isinstance(answer, Tighten):
            raise PolicyError(_of_another_type(who, answer, "None, Tighten or Refuse"))
        _check_limits(who, answer)
        request, old = self.proposal.request, self.proposal.output_limit_bytes
        seconds = _smaller(who, "timeout_seconds", answer.timeout_seconds, request.timeout_seconds)
        output = _smaller(who, "output_limit_bytes", answer.output_limit_bytes, old)
        return attrs.evolve(
            self.proposal,
            request=attrs.evolve(request, timeout_seconds=seconds),
            output_limit_bytes=output,
        )


class RequestJudging(_Judging[RequestProposal]):
    """One call of ``stockade_request``: a policy agrees or refuses, and changes nothing."""

    def __init__(self, proposal: RequestProposal) -> None:
        super().__init__("stockade_request", proposal)

    def tightened(self, who: Who, answer: object) -> RequestProposal:
        raise PolicyError(_of_another_type(who, answer, "None or Refuse"))


def _of_another_type(who: Who, answer: object, allowed: str) -> str:
    return f"policy {who} answered {answer!r}, which is not {allowed}. {who.remedy}"


def _check_limits(who: Who, change: Tighten) -> None:
    """A limit that is none (NaN, zero, text) would otherwise pass as a small one (B2)."""
    limits = attrs.asdict(change)
    try:
        SandboxConfig().with_(
            **{name: value for name, value in limits.items() if value is not None}
        )
    except ConfigError as error:
        raise PolicyError(f"policy {who} answered {change!r}: {error}") from error


def _smaller(who: Who, name: str, new: _N | None, old: _N | None) -> _N | None:
    """The limit that a policy leaves; None is no limit in ``old``, no change in ``new``."""
    if new is None:
        return old
    if old is not None and new > old:
        raise PolicyError(
            f"policy {who} would loosen {name} of an execution from {old!r} to {new!r}; a policy "
            f"may only tighten. {who.remedy}"
        )
    return new


class Notifying(Guard):
    """One call of ``stockade_event``: whatever an observer raises is logged and stops nobody."""

    def __init__(self, event: Event) -> None:
        super().__init__("stockade_event")
        self._event = event
        self._interrupt: BaseException | None = None

    def notify(self, hook: pluggy.HookCaller) -> None:
        """Notify every observer. The user's interrupt alone goes on, once all are notified."""
        self.call(hook, event=self._event)
        if self._interrupt is not None:
            raise self._interrupt

    def failed(self, who: Who, error: BaseException) -> object:
        # Of whatever kind it is: a caller would hang on what core had yet to do.
        _log.error("observer %s failed on %s", who, self._event.kind, exc_info=error)
        if is_interrupt(error):
            self._interrupt = error
        return None


class Passing(Guard):
    """One call of ``stockade_execution``: what a middleware raises ends the execution, since its
    result must not come by a middleware that failed."""

    def __init__(self, execution: JudgedExecution) -> None:
        super().__init__("stockade_execution")
        self._execution = execution

    def execute(self, hook: pluggy.HookCaller) -> SandboxResult:
        """The result that middleware left. Raises MiddlewareError, and what an execution does."""
        result: object = self.call(hook, execution=self._execution)
        if not isinstance(result, SandboxResult):  # a hookwrapper forced it
            raise MiddlewareError(f"middleware gave {result!r:.200}, which is no SandboxResult.")
        return result

    def answered(self, who: Who, answer: object) -> object:
        if answer is not None and not isinstance(answer, SandboxResult):
            raise _no_result(who, answer)
        return answer

    def wrapped(self, who: Who, answer: object, outcome: object) -> object:
        if not isinstance(answer, SandboxResult):
            raise _no_result(who, answer)
        return answer

    def failed(self, who: Who, error: BaseException) -> object:
        if isinstance(error, StockadeError):
            raise error
        raise MiddlewareError(f"middleware {who} failed: {named(error)}. {who.remedy}") from error


def _no_result(who: Who, answer: object) -> MiddlewareError:
    return MiddlewareError(
        f"middleware {who} returned {answer!r:.200}, which is no SandboxResult. {who.remedy}"
    )


class Collecting(Guard):
    """A hook whose answers are put together: one that fails, or answers what ``check`` raises
    TypeError or ValueError for, is logged and contributes nothing."""

    def __init__(self, hook: str, check: Callable[[Any], None] = lambda _: None) -> None:
        super().__init__(hook)
        self._check = check
        #: Who failed, and why.
        self.failures: list[tuple[Who, BaseException]] = []

    def answered(self, who: Who, answer: object) -> object:
        try:
            if answer is not None:
                self._check(answer)
        except (TypeError, ValueError) as error:
            return self.failed(who, error)
        return answer

    def wrapped(self, who: Who, answer: object, outcome: object) -> object:
        try:
            if not isinstance(answer, list):
                raise TypeError(f"its wrapper returned {answer!r:.80}, not the list of answers")
            for one in answer:
                self._check(one)
        except (TypeError, ValueError) as error:
            self.failed(who, error)
            return outcome
        return answer

    def failed(self, who: Who, error: BaseException) -> object:
        if is_interrupt(error):
            raise error
        _log.error("%s of plug-in %s failed", self.hook, who, exc_info=error)
        self.failures.append((who, error))
        return None
