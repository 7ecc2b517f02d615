"""The entry point: one Telemetry over OpenTelemetry's global providers."""

from __future__ import annotations

from stockade.plugin import Event, hookimpl
from stockade_otel.telemetry import Telemetry

STOCKADE_API_VERSION = 1

# The API's global providers are proxies: an SDK that is set up later takes over.
_telemetry = Telemetry()


@hookimpl
def stockade_event(event: Event) -> None:
    _telemetry.stockade_event(event)
