"""Spans and metrics, as an SDK's exporters in memory receive them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import stockade
from conftest import need
from core.walls import ScriptedRunning, make_provider, until_killed
from stockade import SandboxLostError, SandboxStartError, Session
from stockade.aio.opening import start as start_awaited
from stockade.plugin import PLUGIN_GROUP, Event, EventKind, Refuse, SessionProposal, hookimpl
from stockade.selection._discovery import installed
from stockade.sessions._runtime import Runtime
from stockade.wall import Exit, Output
from stockade_otel import Telemetry


@attrs.define
class Collected:
    """A runtime that is observed, and what came of it."""

    runtime: Runtime
    telemetry: Telemetry
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer: trace.Tracer

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """A metric's points: attributes, sorted, to sum or (count, sum)."""
        data: Any = self.reader.get_metrics_data()
        found: dict[tuple[tuple[str, Any], ...], Any] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points if metric.name == name else ():
                        key = tuple(sorted(point.attributes.items()))
                        value = getattr(point, "value", None)
                        found[key] = (point.count, point.sum) if value is None else value
        return found

    def total(self, name: str, **attributes: Any) -> Any:
        """The sum over all points that have these attributes (dots as underscores)."""
        return sum(
            value
            for key, value in self.points(name).items()
            if all(
                any(k.replace(".", "_") == name and v == wanted for k, v in key)
                for name, wanted in attributes.items()
            )
        )


@pytest.fixture
def otel() -> Iterator[Collected]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    traces, meters = TracerProvider(), MeterProvider([reader])
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=traces, meter_provider=meters)
    runtime = Runtime(discover_plugins=False)
    runtime.hooks.add(telemetry)
    yield Collected(runtime, telemetry, exporter, reader, traces.get_tracer("test"))
    traces.shutdown()
    meters.shutdown()


def prints(_: ScriptedRunning, output: Output) -> Exit:
    output.write(stockade.Stream.STDOUT, b"secret output")
    return Exit(code=3)


def test_a_session_is_a_span_and_its_executions_are_in_it(otel: Collected) -> None:
    provider = make_provider(prints, runtime=otel.runtime)
    with Session(provider, provider.open_record("researcher")) as session:
        session.run(["x"])
        session.shell("y")
    (whole,) = otel.spans("stockade.session")
    (creation,) = otel.spans("stockade.session.create")
    executions = otel.spans("stockade.execution")
    assert whole.attributes and executions[0].attributes
    assert whole.attributes["stockade.session.id"] == session.session_id
    assert whole.attributes["stockade.agent.id"] == "researcher"
    assert whole.attributes["stockade.provider"] == "scripted"
    assert whole.parent is None and whole.status.status_code is StatusCode.UNSET
    for span in (creation, *executions):
        assert span.parent is not None and span.parent.span_id == whole.context.span_id
        assert whole.start_time <= span.start_time <= span.end_time <= whole.end_time  # type: ignore[operator]
    forms = [(span.attributes or {})["stockade.execution.form"] for span in executions]
    assert forms == ["argv", "shell"]
    assert executions[0].attributes["stockade.execution.verdict"] == "exited"
    assert executions[0].attributes["process.exit.code"] == 3
    assert executions[0].attributes["stockade.execution.stdout.size"] == len(b"secret output")
    assert executions[0].status.status_code is StatusCode.UNSET  # it ran, and said 3


def test_the_numbers(otel: Collected) -> None:
    provider = make_provider(prints, runtime=otel.runtime)
    sessions = [Session(provider, provider.open_record("a")) for _ in range(3)]
    for _ in range(4):
        sessions[0].run(["x"])
    sessions[0].close()
    assert otel.total("stockade.session.creations", stockade_provider="scripted") == 3
    assert otel.total("stockade.session.active") == 2
    assert otel.total("stockade.execution.count", stockade_execution_verdict="exited") == 4
    assert otel.total("stockade.execution.active") == 0
    assert otel.total("stockade.execution.output.size", stockade_stream="stdout") == 4 * 13
    ((_, (count, seconds)),) = otel.points("stockade.execution.duration").items()
    assert count == 4 and 0 <= seconds < 60
    assert next(iter(otel.points("stockade.session.create.duration").values()))[0] == 3
    assert next(iter(otel.points("stockade.session.duration").values()))[0] == 1
    for session in sessions:
        session.close()
    assert otel.total("stockade.session.active") == 0


def test_verdicts_that_are_worth_a_look(otel: Collected) -> None:
    provider = make_provider(until_killed, runtime=otel.runtime)
    with Session(provider, provider.open_record("a")) as session:
        session.run(["x"], timeout=0.1)
        running = session.start(["x"])
        running.cancel()
        running.result(10)
    late, cancelled = otel.spans("stockade.execution")
    assert late.status.status_code is StatusCode.ERROR and late.attributes
    assert late.attributes["error.type"] == "timed out"
    assert cancelled.status.status_code is StatusCode.UNSET
    assert otel.total("stockade.execution.count", stockade_execution_verdict="timed out") == 1


def test_a_sandbox_that_is_lost_and_one_that_does_not_start(otel: Collected) -> None:
    def lost(_: ScriptedRunning, __: Output) -> Exit:
        raise SandboxLostError("gone: token=s3cr3t")

    provider = make_provider(lost, runtime=otel.runtime)
    with Session(provider, provider.open_record("a")) as session:
        with pytest.raises(SandboxLostError):
            session.run(["x"])
    (span,) = otel.spans("stockade.execution")
    assert span.attributes and span.attributes["error.type"] == "SandboxLostError"

    def fail(_: object) -> None:
        raise RuntimeError("token=s3cr3t")

    provider.wall.on_open = fail  # type: ignore[attr-defined]
    with pytest.raises(SandboxStartError):
        provider.open_record("a")
    failed = otel.spans("stockade.session")[-1]
    assert failed.status.status_code is StatusCode.ERROR
    assert otel.total("stockade.session.creations", error_type="SandboxStartError") == 1
    assert otel.total("stockade.session.active") == 0
    assert "s3cr3t" not in str([span.to_json() for span in otel.exporter.get_finished_spans()])


def test_refusals(otel: Collected) -> None:
    class Policy:
        @hookimpl
        def stockade_session_policy(self, proposal: SessionProposal) -> Refuse:
            return Refuse("no")

    otel.runtime.hooks.add(Policy())
    provider = make_provider(runtime=otel.runtime)
    with otel.tracer.start_as_current_span("request"):
        with pytest.raises(stockade.PolicyRefusedError):
            provider.open_record("a")
    assert otel.total("stockade.refusals", stockade_refused="session") == 1
    (request,) = otel.spans("request")
    assert [event.name for event in request.events] == ["stockade.session.refused"]
    assert otel.spans("stockade.session") == []


def test_an_ending_that_fails_is_counted_and_the_session_stays(otel: Collected) -> None:
    provider = make_provider(runtime=otel.runtime)
    record = provider.open_record("a")
    sandbox: Any = record.sandbox

    def stuck() -> None:
        raise OSError("stuck")

    sandbox.on_close = stuck
    with pytest.raises(stockade.DestroyError):
        otel.runtime.destroy(record)
    assert otel.total("stockade.session.destroy.failures", error_type="OSError") == 1
    assert otel.total("stockade.session.active") == 1 and otel.spans("stockade.session") == []
    sandbox.on_close = lambda: None
    otel.runtime.destroy(record)
    assert otel.total("stockade.session.active") == 0


def test_the_trace_of_whoever_asks(otel: Collected) -> None:
    provider = make_provider(runtime=otel.runtime)
    with otel.tracer.start_as_current_span("opening"):
        session = Session(provider, provider.open_record("a"))
    with otel.tracer.start_as_current_span("asking"):
        session.run(["x"])
    session.close()
    (opening,), (asking,) = otel.spans("opening"), otel.spans("asking")
    (whole,), (execution,) = otel.spans("stockade.session"), otel.spans("stockade.execution")
    assert whole.parent is not None and whole.parent.span_id == opening.context.span_id
    assert execution.context.trace_id == whole.context.trace_id
    assert [link.context.span_id for link in execution.links] == [asking.context.span_id]


def test_an_awaiting_callers_trace_too(otel: Collected) -> None:
    provider = make_provider(runtime=otel.runtime)

    async def main() -> None:
        with otel.tracer.start_as_current_span("request"):
            async with await start_awaited(provider, "a") as session:
                await session.run(["x"])

    asyncio.run(main())
    (request,), (whole,) = otel.spans("request"), otel.spans("stockade.session")
    (execution,) = otel.spans("stockade.execution")
    assert whole.parent is not None and whole.parent.span_id == request.context.span_id
    assert execution.parent is not None and execution.parent.span_id == whole.context.span_id


def event(kind: Any, session: str, agent: str = "a", **more: Any) -> Event:
    return Event(kind=kind, provider="w", agent_id=agent, session_id=session, **more)


def test_a_pools_sessions_are_counted_once_and_get_their_span_when_handed_out(
    otel: Collected,
) -> None:
    take = otel.telemetry.stockade_event
    take(event(EventKind.SESSION_CREATING, "s", "\0pool"))
    take(event(EventKind.SESSION_READY, "s", "\0pool", duration_seconds=0.5))
    assert otel.total("stockade.session.active", stockade_session_pooled=True) == 1
    take(event(EventKind.POOL_HIT, "s"))
    take(event(EventKind.SESSION_READY, "s", duration_seconds=0.0))
    take(event(EventKind.POOL_MISS, ""))
    assert otel.total("stockade.session.active", stockade_session_pooled=True) == 0
    assert otel.total("stockade.session.active", stockade_session_pooled=False) == 1
    assert otel.total("stockade.session.creations") == 1
    assert otel.total("stockade.pool.requests", stockade_pool_result="hit") == 1
    assert otel.total("stockade.pool.requests", stockade_pool_result="miss") == 1
    take(event(EventKind.SESSION_DESTROYED, "s", duration_seconds=2.0))
    assert otel.total("stockade.session.active") == 0
    assert len(otel.spans("stockade.session")) == 1


def test_events_of_a_newer_core_and_of_sessions_never_seen_do_no_harm(otel: Collected) -> None:
    class Kind(str):
        __slots__ = ()
        value = property(str)

    take = otel.telemetry.stockade_event
    take(event(Kind("session.collected"), "s", agent=""))
    assert otel.total("stockade.gc.collected", stockade_provider="w") == 1
    take(event(Kind("session.attached"), "t"))
    assert otel.total("stockade.session.active") == 1
    take(event(Kind("session.detached"), "t"))
    assert otel.total("stockade.session.active") == 0
    assert len(otel.spans("stockade.session")) == 1
    take(event(Kind("something.new"), "u"))
    for kind in EventKind:
        if kind not in (EventKind.SESSION_CREATING, EventKind.EXECUTION_STARTED):
            take(event(kind, "never-seen", execution_id="e"))


def test_nothing_is_kept_of_what_has_ended(otel: Collected) -> None:
    provider = make_provider(prints, runtime=otel.runtime)
    for _ in range(20):
        with Session(provider, provider.open_record("a")) as session:
            session.run(["x"])
    spans, metrics = otel.telemetry._spans, otel.telemetry._metrics
    assert not spans._sessions and not spans._executions and not spans._creating
    assert not metrics._known and not metrics._started


def test_it_is_an_installed_plugin() -> None:
    found = [plugin for plugin in installed(PLUGIN_GROUP) if plugin.name == "otel"]
    assert [plugin.distribution for plugin in found] == ["stockade-otel"]
    runtime = Runtime()
    provider = make_provider(runtime=runtime)  # it is loaded, and harmless without an SDK
    with Session(provider, provider.open_record("a")) as session:
        assert session.run(["x"]).success


def test_no_secret_of_a_real_session_is_exported(otel: Collected) -> None:
    need("landlock")
    with stockade.open(
        "landlock", runtime=otel.runtime, env_vars={"TOKEN": "s3cr3t-env"}
    ) as session:
        session.run(["cat"], stdin=b"s3cr3t-stdin", env={"OTHER": "s3cr3t-other"})
        session.shell("echo s3cr3t-shell")
        session.code("print('s3cr3t-code')")
    exported = str([span.to_json() for span in otel.exporter.get_finished_spans()])
    data = otel.reader.get_metrics_data()
    exported += data.to_json() if data is not None else ""
    assert "stockade.execution" in exported and "s3cr3t" not in exported
