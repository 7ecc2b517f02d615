"""Counters, histograms and the number of sessions alive.

No attribute here distinguishes sessions or agents: their number has no bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider
from opentelemetry.util.types import AttributeValue

from stockade.plugin import Event, EventKind
from stockade_otel import names

__all__ = ["Metrics"]

#: From a fork to a long build, in seconds.
_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
_LIVES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
#: In place of a host that was refused: a program chooses its name, and there is no bound to these.
_OTHERS = "(refused)"
_Attributes = dict[str, AttributeValue]


class Metrics:
    """One instrument a question; all of them named ``stockade.…``."""

    def __init__(self, provider: MeterProvider | None = None) -> None:
        meter = metrics.get_meter(names.SCOPE, names.version(), provider)
        self._creations = meter.create_counter(
            "stockade.session.creations", "{session}", "Sessions that were to be started"
        )
        self._creating = meter.create_histogram(
            "stockade.session.create.duration",
            "s",
            "How long starting a sandbox took",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._alive = meter.create_up_down_counter(
            "stockade.session.active", "{session}", "Sessions that are alive"
        )
        self._lives = meter.create_histogram(
            "stockade.session.duration",
            "s",
            "How long sessions lived",
            explicit_bucket_boundaries_advisory=_LIVES,
        )
        self._failures = meter.create_counter(
            "stockade.session.destroy.failures", "{failure}", "Sessions that could not be ended"
        )
        self._refusals = meter.create_counter(
            "stockade.refusals", "{refusal}", "What policies, limits or walls refused"
        )
        self._executions = meter.create_counter(
            "stockade.execution.count", "{execution}", "Executions that ended, by verdict"
        )
        self._running = meter.create_up_down_counter(
            "stockade.execution.active", "{execution}", "Executions that run"
        )
        self._durations = meter.create_histogram(
            "stockade.execution.duration",
            "s",
            "How long executions took",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._output = meter.create_counter(
            "stockade.execution.output.size", "By", "What programs printed, kept or not"
        )
        self._pool = meter.create_counter(
            "stockade.pool.requests", "{request}", "What pools were asked for, and had or not"
        )
        self._collected = meter.create_counter(
            "stockade.gc.collected", "{session}", "Sessions without an owner that gc removed"
        )
        self._requests = meter.create_counter(
            "stockade.egress.requests", "{request}", "What programs asked of hosts, by outcome"
        )
        self._lock = threading.Lock()
        #: Sessions counted as alive, and whether as a pool's.
        self._known: dict[str, bool] = {}
        self._started: set[str] = set()
        # By the word: a newer core may report more than the oldest that this works with.
        self._takers: dict[str, Callable[[Event], None]] = {
            "session.attached": self._attached,
            "session.detached": self._destroyed,
            "session.collected": self._gone,
            "request.ended": self._went_out,
            EventKind.SESSION_READY.value: self._ready,
            EventKind.SESSION_FAILED.value: self._failed,
            EventKind.SESSION_DESTROYED.value: self._destroyed,
            EventKind.SESSION_REFUSED.value: self._refused,
            EventKind.EXECUTION_REFUSED.value: self._refused,
            EventKind.EXECUTION_STARTED.value: self._begun,
            EventKind.EXECUTION_FINISHED.value: self._ended,
            EventKind.EXECUTION_FAILED.value: self._ended,
            EventKind.POOL_HIT.value: self._asked,
            EventKind.POOL_MISS.value: self._asked,
        }

    def take(self, event: Event) -> None:
        taker = self._takers.get(str(event.kind))
        if taker is not None:
            taker(event)

    def _went_out(self, event: Event) -> None:
        """Hosts are those that allow-lists name; what a program made up counts as one."""
        refused = event.outcome == "refused"
        host = _OTHERS if refused and not event.secrets else event.host or ""
        self._requests.add(
            1, {**_of(event), names.HOST: host, names.OUTCOME: event.outcome or "unknown"}
        )

    # -- sessions --------------------------------------------------------------

    def _ready(self, event: Event) -> None:
        """Started; or handed out by a pool, which is no second session."""
        number = event.session_id or ""
        with self._lock:
            before = self._known.get(number)
            self._known[number] = event.pooled
        if before is not None:
            self._alive.add(-1, {**_of(event), names.POOLED: before})
        else:
            self._creations.add(1, {**_of(event), names.POOLED: event.pooled})
            if event.duration_seconds is not None:
                self._creating.record(
                    event.duration_seconds, {**_of(event), names.POOLED: event.pooled}
                )
        self._alive.add(1, {**_of(event), names.POOLED: event.pooled})

    def _attached(self, event: Event) -> None:
        """Another process made it: alive here too, and no creation."""
        with self._lock:
            self._known[event.session_id or ""] = False
        self._alive.add(1, {**_of(event), names.POOLED: False})

    def _gone(self, event: Event) -> None:
        self._collected.add(1, _of(event))

    def _failed(self, event: Event) -> None:
        error: _Attributes = {**_of(event), names.ERROR: event.reason or "unknown"}
        with self._lock:
            known = event.session_id in self._known
        if known:
            self._failures.add(1, error)
        else:
            self._creations.add(1, {**error, names.POOLED: event.pooled})

    def _destroyed(self, event: Event) -> None:
        """Ended, or left to other processes."""
        with self._lock:
            pooled = self._known.pop(event.session_id or "", None)
        if pooled is None:
            return
        self._alive.add(-1, {**_of(event), names.POOLED: pooled})
        if event.duration_seconds is not None and event.kind is EventKind.SESSION_DESTROYED:
            self._lives.record(event.duration_seconds, {**_of(event), names.POOLED: pooled})

    def _refused(self, event: Event) -> None:
        self._refusals.add(1, {**_of(event), "stockade.refused": str(event.kind).split(".")[0]})

    # -- executions --------------------------------------------------------------

    def _begun(self, event: Event) -> None:
        with self._lock:
            self._started.add(event.execution_id or "")
        self._running.add(1, _of(event))

    def _ended(self, event: Event) -> None:
        with self._lock:
            if event.execution_id in self._started:
                self._started.discard(event.execution_id)
                self._running.add(-1, _of(event))
        how: _Attributes = {**_of(event), names.FORM: event.form or ""}
        if event.verdict is not None:
            how[names.VERDICT] = str(event.verdict)
        if event.kind is EventKind.EXECUTION_FAILED:
            how[names.ERROR] = event.reason or "unknown"
        self._executions.add(1, how)
        if event.duration_seconds is not None:
            self._durations.record(event.duration_seconds, how)
        for stream, size in (("stdout", event.stdout_bytes), ("stderr", event.stderr_bytes)):
            if size:
                self._output.add(size, {**_of(event), names.STREAM: stream})

    def _asked(self, event: Event) -> None:
        result = "hit" if event.kind is EventKind.POOL_HIT else "miss"
        self._pool.add(1, {**_of(event), names.RESULT: result})


def _of(event: Event) -> _Attributes:
    return {names.PROVIDER: event.provider}
