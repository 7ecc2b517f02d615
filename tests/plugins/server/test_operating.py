"""What an operator sees of it: readiness, metrics, the access log; and HTTPS."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plugins.server.serving import Caller, Made, made_key, serving, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

from stockade_server.errors import Refused
from stockade_server.rates import Rates

pytestmark = pytest.mark.usefixtures("local")


def config(folder: Path, more: str) -> tuple[Path, str]:
    """A file with one key, and the key."""
    file = folder / "stockade.toml"
    file.write_text(
        f'[serve]\n{more}\n[serve.templates.base]\nprovider = "local?lifetime_seconds=600"\n'
    )
    file.chmod(0o600)
    return file, made_key(file, "one")


def test_requests_are_counted_and_logged_without_a_secret(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    file, key = config(tmp_path, f'access_log = "{log}"')
    with serving("--config", str(file), key=key) as served:
        caller, nobody = Caller(served.url, key), Caller(served.url, "")
        assert nobody.ask("GET", "/ready") == (204, b"")
        assert nobody.ask("GET", "/metrics")[0] == 401
        found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base"})[1]
        made = Made(caller, found["sandboxID"], found["envdAccessToken"])
        made.stream("process.Process/Start", start("echo printed"))
        caller.ask("GET", "/files?path=x&signature=v1_sesame", authorization="Basic dXNlcjo=")
        port = {"e2b_sandbox_id": made.sandbox_id, "e2b_sandbox_port": "8000"}
        caller.ask("GET", "/path/of/its/own?secret", **port)
        nobody.ask("GET", "/v2/sandboxes")
        bearer = nobody.ask("GET", "/metrics", authorization=f"Bearer {key}")
        status, text = caller.ask("GET", "/metrics")
        assert status == bearer[0] == 200
    for line in (
        'stockade_server_sandboxes{template="base",state="running"} 1',
        "stockade_server_commands 0",
        'stockade_server_requests_total{kind="control",status="201"} 1',
        'stockade_server_requests_total{kind="control",status="401"} 1',
        'stockade_server_requests_total{kind="process.Process",status="200"} 1',
        'stockade_server_requests_total{kind="files",status="401"} 1',
        'stockade_server_requests_total{kind="port",status="502"} 1',
    ):
        assert line in text.decode().splitlines(), text
    name, label = r"[a-z_]+", r'[a-z]+="[^"]*"'
    for line in text.decode().splitlines():
        sample = rf"{name}(\{{{label}(,{label})*\}})? [0-9.]+"
        assert re.fullmatch(rf"# (HELP|TYPE) {name} .+|{sample}", line), line

    assert log.stat().st_mode & 0o777 == 0o600
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(one["method"], one["path"], one["status"]) for one in records] == [
        ("POST", "/v2/sandboxes", 201),
        ("POST", "/process.Process/Start", 200),
        ("GET", "/files", 401),
        ("GET", "port 8000", 502),
        ("GET", "/v2/sandboxes", 401),
    ]
    assert [one["owner"] for one in records] == ["one", None, None, None, None]
    assert records[1]["sandbox"] == made.sandbox_id and records[1]["bytes"] > 50
    for secret in (key, made.token, found["trafficAccessToken"], "sesame", "secret", "its/own"):
        assert secret not in log.read_text()


def test_a_key_makes_so_many_requests_a_second(tmp_path: Path) -> None:
    now = 0.0
    rates = Rates(3, lambda: now)
    for _ in range(3):
        rates.take("one")
    with pytest.raises(Refused, match="more than 3 requests a second"):
        rates.take("one")
    rates.take("two")
    now += 1 / 3 + 1e-6
    rates.take("one")
    with pytest.raises(Refused):
        rates.take("one")
    now += 100
    for _ in range(3):
        rates.take("one")
    with pytest.raises(Refused):
        rates.take("one")

    file, key = config(tmp_path, "max_requests_per_second = 1")
    with serving("--config", str(file), key=key) as served:
        caller = Caller(served.url, key)
        found = caller.ask("POST", "/v2/sandboxes", {"templateID": "base"})[1]
        made = Made(caller, found["sandboxID"], found["envdAccessToken"])
        port = {"e2b_sandbox_id": made.sandbox_id, "e2b_sandbox_port": "8000"}
        for method, path, headers in (
            ("GET", "/v2/sandboxes", {}),
            ("GET", "/contexts", made.headers),
            ("GET", "/", port),
        ):
            asked = [caller.ask(method, path, None, **headers)[0] for _ in range(6)]
            assert 429 in asked, (path, asked)


def test_a_log_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    file, _ = config(tmp_path, f'access_log = "{tmp_path}"')
    assert "name another file as access_log" in refused(file)


def test_it_speaks_https_with_the_operators_certificate(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here, which makes the certificate")
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(private), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    named = f'tls_certificate = "{certificate}"\ntls_key = "{private}"'
    file, key = config(tmp_path, named + '\ndomain = "sandboxes.test"')
    with serving("--config", str(file), key=key) as served:
        assert urlsplit(served.url).scheme == "https"
        context = ssl.create_default_context(cafile=str(certificate))
        body = json.dumps({"templateID": "base"}).encode()
        request = urllib.request.Request(f"{served.url}/v2/sandboxes", body, {"X-API-KEY": key})
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            assert json.load(answer)["domain"] == "sandboxes.test"
    private.write_text("no key")
    assert "the key without a password" in refused(file)
    file.write_text(file.read_text().replace("tls_key", "# tls_key"))
    assert "belong together" in refused(file)


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [("[]", "127.0.0.1"), ('["10.0.0.0/8"]', "127.0.0.1"), ('["127.0.0.0/8"]', "192.0.2.7")],
)
def test_a_callers_address_is_taken_from_named_proxies_alone(
    tmp_path: Path, proxies: str, seen: str
) -> None:
    file, log = tmp_path / "stockade.toml", tmp_path / "access.log"
    file.write_text(
        f'[serve]\nproxies = {proxies}\naccess_log = "{log}"\n'
        '[serve.templates.base]\nprovider = "local"\n'
    )
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        Caller(served.url, key).ask(
            "GET", "/v2/sandboxes", x_forwarded_for="203.0.113.9, 192.0.2.7"
        )
    assert json.loads(log.read_text())["client"] == seen


def test_what_is_no_proxy_is_said(tmp_path: Path) -> None:
    from stockade.errors import ConfigError
    from stockade_server import Key, Settings, Template, digest_of

    fields: dict[str, Any] = {
        "templates": {"base": Template(name="base", provider="local")},
        "keys": {"one": Key(digest_of("x"))},
    }
    for proxies in ("10.0.0.1", ["*"], [10], ["10.0.0.1/8"], ["proxy.example"]):
        with pytest.raises(ConfigError, match="proxies is a list"):
            Settings(proxies=proxies, **fields)


def refused(file: Path) -> str:
    command = [sys.executable, "-m", "stockade.cli", "serve", "--port", "0", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout
    return done.stderr
