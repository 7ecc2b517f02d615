"""stockade's sessions and executions as OpenTelemetry spans and metrics.

Installed, it is at work for every session. A program that wants other providers
than OpenTelemetry's global ones, or has plug-ins off, adds it by hand:

    runtime.hooks.add(stockade_otel.Telemetry(tracer_provider=…, meter_provider=…))
"""

from stockade_otel.telemetry import Telemetry

__all__ = ["Telemetry"]
