"""A session is a span; its creation and its executions are spans in it."""

from __future__ import annotations

import threading

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from stockade.plugin import Event, EventKind
from stockade_otel import names

__all__ = ["Spans"]

#: Verdicts of a program that did its own; the others are worth an operator's look.
_FINE = frozenset({"exited", "cancelled"})


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


class Spans:
    """Open spans by session and by execution; each leaves with its end."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, names.version(), provider)
        self._lock = threading.Lock()
        self._sessions: dict[str, Span] = {}
        self._creating: set[str] = set()
        self._executions: dict[str, Span] = {}

    def take(self, event: Event) -> None:
        if event.pooled:
            return  # its span begins when somebody gets it
        kind = event.kind
        if kind is EventKind.SESSION_CREATING:
            self._begin_session(event, creating=True)
        elif str(kind) == "session.attached":  # by the word: not every core reports it
            self._begin_session(event, creating=False)
        elif kind is EventKind.SESSION_READY:
            self._ready(event)
        elif kind is EventKind.SESSION_FAILED:
            self._session_failed(event)
        elif kind is EventKind.SESSION_DESTROYED or str(kind) == "session.detached":
            self._end_session(event)
        elif kind is EventKind.EXECUTION_STARTED:
            self._begin_execution(event)
        elif kind in (EventKind.EXECUTION_FINISHED, EventKind.EXECUTION_FAILED):
            self._end_execution(event)
        elif kind in (EventKind.SESSION_REFUSED, EventKind.EXECUTION_REFUSED):
            self._refused(event)

    # -- sessions --------------------------------------------------------------

    def _begin_session(self, event: Event, *, creating: bool) -> None:
        assert event.session_id is not None
        span = self._tracer.start_span(
            "stockade.session",
            kind=SpanKind.CLIENT,
            start_time=_nanoseconds(event.time),
            attributes={
                names.PROVIDER: event.provider,
                names.SESSION: event.session_id,
                names.AGENT: event.agent_id,
            },
        )
        with self._lock:
            self._sessions[event.session_id] = span
            if creating:
                self._creating.add(event.session_id)

    def _ready(self, event: Event) -> None:
        assert event.session_id is not None
        with self._lock:
            span = self._sessions.get(event.session_id)
            self._creating.discard(event.session_id)
        if span is None:
            self._begin_session(event, creating=False)  # from a pool: it was there already
        else:
            self._creation(span, event).end(_nanoseconds(event.time))

    def _creation(self, session: Span, event: Event) -> Span:
        began = event.time - (event.duration_seconds or 0.0)
        return self._tracer.start_span(
            "stockade.session.create",
            context=trace.set_span_in_context(session),
            start_time=_nanoseconds(began),
            attributes={names.PROVIDER: event.provider},
        )

    def _session_failed(self, event: Event) -> None:
        """Its creation failed, which is its end; or its destruction did, and it stays."""
        assert event.session_id is not None
        error = event.reason or "unknown"
        with self._lock:
            creating = event.session_id in self._creating
            self._creating.discard(event.session_id)
            span = self._sessions.get(event.session_id)
            if creating:
                del self._sessions[event.session_id]
        if span is None:
            return
        span.add_event(str(event.kind), {names.ERROR: error}, _nanoseconds(event.time))
        if creating:
            span.set_attribute(names.ERROR, error)
            span.set_status(Status(StatusCode.ERROR, error))
            span.end(_nanoseconds(event.time))

    def _end_session(self, event: Event) -> None:
        with self._lock:
            span = self._sessions.pop(event.session_id or "", None)
        if span is not None:
            span.end(_nanoseconds(event.time))

    # -- executions --------------------------------------------------------------

    def _begin_execution(self, event: Event) -> None:
        assert event.execution_id is not None
        with self._lock:
            session = self._sessions.get(event.session_id or "")
        # A session may outlive the request that opened it: the execution is linked to
        # what asked for it, where that is another trace.
        asking = trace.get_current_span().get_span_context()
        elsewhere = session is not None and asking.trace_id != session.get_span_context().trace_id
        span = self._tracer.start_span(
            "stockade.execution",
            context=None if session is None else trace.set_span_in_context(session),
            kind=SpanKind.CLIENT,
            links=[Link(asking)] if asking.is_valid and elsewhere else [],
            start_time=_nanoseconds(event.time),
            attributes={
                names.PROVIDER: event.provider,
                names.SESSION: event.session_id or "",
                names.AGENT: event.agent_id,
                names.EXECUTION: event.execution_id,
                names.FORM: event.form or "",
            },
        )
        with self._lock:
            self._executions[event.execution_id] = span

    def _end_execution(self, event: Event) -> None:
        with self._lock:
            span = self._executions.pop(event.execution_id or "", None)
        if span is None:
            return
        span.set_attributes(names.described(event))
        error = event.reason if event.kind is EventKind.EXECUTION_FAILED else None
        if error is None and event.verdict is not None and str(event.verdict) not in _FINE:
            error = str(event.verdict)
        if error is not None:
            span.set_attribute(names.ERROR, error)
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(_nanoseconds(event.time))

    def _refused(self, event: Event) -> None:
        """An event on whatever the caller is at: nothing of it came to be."""
        attributes = {names.PROVIDER: event.provider, names.AGENT: event.agent_id}
        if event.session_id:
            attributes[names.SESSION] = event.session_id
        trace.get_current_span().add_event(
            f"stockade.{event.kind}", attributes, _nanoseconds(event.time)
        )
