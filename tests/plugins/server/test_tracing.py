"""Requests to the server as spans, with what they open and run in them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.server.serving import Caller, Made, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
pytest.importorskip("stockade_otel", reason="stockade-otel is not installed")

pytestmark = pytest.mark.usefixtures("local")

#: The server as an operator starts it who has set up an SDK.
_PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
out = open(sys.argv[1], "w")
line = lambda span: span.to_json(indent=None) + "\\n"
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=line)))
trace.set_tracer_provider(provider)
sys.argv[1:] = ["serve", "--port", "0", "--template", "base=local"]
from stockade.cli import main
main()
"""
_TRACE, _PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_what_a_request_runs_is_in_its_callers_trace(tmp_path: Path) -> None:
    file = tmp_path / "spans"
    command = [sys.executable, "-c", _PROGRAM, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = dict(process.stdout.readline().strip().split("=", 1) for _ in range(3))
        caller = Caller(said["E2B_API_URL"], said["E2B_API_KEY"])
        parent = f"00-{_TRACE}-{_PARENT}-01"
        body = {"templateID": "base"}
        status, found = caller.ask("POST", "/v2/sandboxes?secret=1", body, traceparent=parent)
        assert status == 201
        made = Made(caller, found["sandboxID"], found["envdAccessToken"])
        made.stream("process.Process/Start", start("echo hi"), traceparent=parent)
        caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
    text = file.read_text()
    spans = [json.loads(line) for line in text.splitlines()]
    by_name = {one["name"]: one for one in spans}
    create, command_ = by_name["POST control"], by_name["POST process.Process"]
    for one in (create, command_):
        assert one["context"]["trace_id"] == f"0x{_TRACE}" and one["parent_id"] == f"0x{_PARENT}"
        assert one["attributes"]["http.response.status_code"] in (200, 201)
    session = by_name["stockade.session"]
    assert session["parent_id"] == create["context"]["span_id"]
    assert by_name["stockade.execution"]["context"]["trace_id"] == f"0x{_TRACE}"
    for secret in (caller.key, made.token, "secret=1"):
        assert secret not in text
