"""From stockade's events to spans and metrics."""

from __future__ import annotations

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from stockade.plugin import Event, hookimpl
from stockade_otel.metrics import Metrics
from stockade_otel.spans import Spans

__all__ = ["Telemetry"]


class Telemetry:
    """An observer for ``runtime.hooks.add``; the installed plug-in is one of these.

    ``tracer_provider`` and ``meter_provider`` default to OpenTelemetry's global ones,
    also where those are set up later. Safe from any thread.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._spans = Spans(tracer_provider)
        self._metrics = Metrics(meter_provider)

    @hookimpl
    def stockade_event(self, event: Event) -> None:
        """Called by core at each change, in the thread in which it happened."""
        self._spans.take(event)
        self._metrics.take(event)
