"""What the commands print: no escape sequence of untrusted text, and nothing without an end."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

import stockade
from stockade import Mount, SandboxConfig
from stockade.capabilities import Capabilities, refusals
from stockade.cli import console as show
from stockade.cli.app import app
from stockade.cli.commands import top
from stockade.errors import StockadeError
from stockade.ledger import _overview as overview
from stockade.ledger._collecting import Collected
from stockade.ledger._overview import Overview
from stockade.sessions import _collecting
from stockade.sessions import _providers as providers
from stockade.sessions._providers import ProviderInfo
from stockade.testing.probes.base import relaxed

CLI = Path(show.__file__).parent
BAD = "\x1b[2Jname\r\x07\u202e\x9b1m"
SHOWN = "\\x1b[2Jname\\r\\x07\\u202e\\x9b1m"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), color=True)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def clean(text: str) -> bool:
    return SHOWN in "".join(text.split()) and not set(text) & {
        "\x1b",
        "\r",
        "\x07",
        "\u202e",
        "\x9b",
    }


SESSION = Overview(
    session_id="ses-1",
    provider="p",
    string=f"p:{BAD}",
    state="ready",
    durable=True,
    owner="-",
    users=0,
    created_at=0.0,
    last_used=0.0,
    expires_at=None,
    idle_seconds=None,
    reason=BAD,
)


def test_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    info = ProviderInfo(name="p", distribution="d", version="1", summary=BAD, reason=BAD)
    monkeypatch.setattr(providers, "inspect_providers", lambda: [info])
    assert clean(run("providers"))
    assert json.loads(run("providers", "--json"))[0]["reason"] == BAD, "data for programs is whole"
    monkeypatch.setattr(overview, "overview", lambda _: [SESSION])
    monkeypatch.setattr(top, "overview", lambda _: [SESSION])
    monkeypatch.setattr(top, "usages", lambda *_: {})
    assert clean(run("session", "list"))
    assert clean(run("top", "--once"))


def test_errors_and_what_gc_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise StockadeError(f"the engine said {BAD}")

    monkeypatch.setattr(stockade, "open", fails, raising=False)
    assert clean(run("run", "--", "true"))
    found = Collected(removed=[("ses-1", BAD, BAD)], skipped=[("p", BAD)])
    monkeypatch.setattr(_collecting, "collect", lambda **_: found)
    assert clean(run("gc"))


def test_everything_is_printed_in_one_place() -> None:
    """So no command can forget it; what a program prints passes as it is, as bytes."""
    allowed = {"console.py": 10, "__init__.py": 1}  # the hint that the command line is missing
    for path in CLI.rglob("*.py"):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and _prints(node.func)
        ]
        assert len(calls) <= allowed.get(path.name, 0), f"{path.name} prints by itself"


def _prints(call: ast.expr) -> bool:
    text = ast.unparse(call)
    return text in ("print", "click.echo", "click.secho", "console.print", "Text") or (
        text.startswith("sys.std") and text.endswith(".write") and "buffer" not in text
    )


def test_top_into_a_pipe_ends(tmp_path: Path) -> None:
    line = f"{sys.executable} -m stockade.cli top | cat"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0 and not done.stderr and done.stdout


def test_doctor_refuses_what_the_string_asks_and_the_wall_lacks(landlock: str) -> None:
    output = run("doctor", "--probe", "-p", f"{landlock}?durable=true")
    assert "the probe failed: landlock cannot hold what was asked: durable=True" in output
    output = run("conformance", "-p", f"{landlock}?durable=true", "--clause", "A1")
    assert "durable=True needs durable" in output


def test_whatever_can_be_refused_can_be_lifted() -> None:
    everything = SandboxConfig(
        network_allow=("a.org",),
        user="1",
        working_dir="/x",
        mounts=(Mount("/srv", "/x"),),
        durable=True,
    )
    published = SandboxConfig(network_enabled=True, ports=(80,), read_only_fs=False)
    for config in (everything, published):
        fields = attrs.asdict(config, recurse=False)
        lifted = relaxed(config, Capabilities(), also=fields)
        asked = [need.field for need in refusals(lifted, Capabilities())]
        # Of the two that are one or the other, one is refused whatever is asked.
        assert set(asked) <= {"network_enabled", "read_only_fs"}
        kept = [need.field for need in refusals(relaxed(config, Capabilities()), Capabilities())]
        assert {"durable", "ports"}.intersection(kept)
