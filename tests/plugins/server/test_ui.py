"""The page for people: who gets in, what it shows, and that nothing from inside holds it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from plugins.server.browser import Page, browsing
from plugins.server.serving import Caller, Made, create, made_key, serving, start

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("websockets", reason="stockade-server is not installed (tox -e server)")

pytestmark = pytest.mark.usefixtures("local")

_HOSTILE = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Caller]]:
    file = tmp_path_factory.mktemp("server") / "stockade.toml"
    file.write_text(
        "[serve]\nidle_seconds = 3\n"
        '[serve.templates.base]\nprovider = "local?lifetime_seconds=900"\n'
    )
    file.chmod(0o600)
    keys = [made_key(file, name) for name in ("one", "two")]
    with serving("--config", str(file), key="") as served:
        yield [Caller(served.url, key) for key in keys]


@pytest.fixture(scope="module")
def made(callers: list[Caller]) -> Made:
    return create(callers[0], timeout=800, metadata={"task": _HOSTILE})


def ask(
    caller: Caller, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """As a browser does: with no key in a header."""
    connection = caller.connection()
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def entered(caller: Caller) -> dict[str, str]:
    """Headers of a browser that has logged in: its cookie, and what its page knows."""
    form = urlencode({"key": caller.key}).encode()
    kind = {"content_type": "application/x-www-form-urlencoded", "origin": caller.url}
    status, headers, _ = ask(caller, "POST", "/ui/login", form, **kind)
    assert (status, headers["location"]) == (303, "/ui")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(attributes)
    assert caller.key not in cookie
    found = json.loads(ask(caller, "GET", "/ui/sandboxes", cookie=cookie)[2])
    return {"cookie": cookie, "x_stockade_guard": found["guard"], "origin": caller.url}


# -- who gets in -----------------------------------------------------------------------


def test_nothing_is_seen_without_a_login(callers: list[Caller], made: Made) -> None:
    caller = callers[0]
    status, _, page = ask(caller, "GET", "/ui")
    assert status == 200 and b'action="/ui/login"' in page
    for path in ("/ui/sandboxes", f"/ui/sandboxes/{made.sandbox_id}/output"):
        for cookie in ("", "stockade=", "stockade=x", f"stockade={caller.key}"):
            assert ask(caller, "GET", path, cookie=cookie)[0] == 401
    form = {"content_type": "application/x-www-form-urlencoded", "origin": caller.url}
    for key in ("", "e2b_00", caller.key[:-1]):
        status, headers, _ = ask(
            caller, "POST", "/ui/login", urlencode({"key": key}).encode(), **form
        )
        assert status == 401 and "set-cookie" not in headers


def test_a_login_sees_its_keys_sandboxes_alone(callers: list[Caller], made: Made) -> None:
    mine, others = (entered(caller) for caller in callers)
    shown = json.loads(ask(callers[0], "GET", "/ui/sandboxes", **mine)[2])["sandboxes"]
    assert [one["id"] for one in shown] == [made.sandbox_id]
    assert json.loads(ask(callers[1], "GET", "/ui/sandboxes", **others)[2])["sandboxes"] == []
    for method, path in (("GET", "output"), ("POST", "end")):
        place = f"/ui/sandboxes/{made.sandbox_id}/{path}"
        assert ask(callers[1], method, place, **others)[0] == 404
    assert ask(callers[0], "POST", "/ui/logout", **mine)[0] == 204
    assert ask(callers[0], "GET", "/ui/sandboxes", **mine)[0] == 401


def test_only_the_page_itself_changes_anything(callers: list[Caller], made: Made) -> None:
    caller, mine = callers[0], entered(callers[0])
    end = f"/ui/sandboxes/{made.sandbox_id}/end"
    below = f"http://8000-{made.sandbox_id}.localhost:{urlsplit(caller.url).port}"
    other = entered(caller)["x_stockade_guard"]
    for wrong in (
        {"origin": "https://example.org"},
        {"origin": below},
        {"origin": "null"},
        {"origin": caller.url.replace("http", "https")},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
        {"x_stockade_guard": ""},
        {"x_stockade_guard": other},
    ):
        assert ask(caller, "POST", end, **{**mine, **wrong})[0] == 403, wrong
        assert ask(caller, "POST", "/ui/logout", **{**mine, **wrong})[0] == 403, wrong
    without = {name: value for name, value in mine.items() if name != "origin"}
    assert ask(caller, "POST", end, **without)[0] == 403
    assert ask(caller, "GET", end, **mine)[0] in (404, 405)
    form = {"content_type": "application/x-www-form-urlencoded", "origin": below}
    key = urlencode({"key": caller.key}).encode()
    assert ask(caller, "POST", "/ui/login", key, **form)[0] == 403
    assert caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[0] == 200


def test_every_answer_of_the_page_is_closed_to_others(callers: list[Caller]) -> None:
    for path in ("/ui", "/ui/style.css", "/ui/script.js", "/ui/sandboxes"):
        _, headers, body = ask(callers[0], "GET", path)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not re.search(rb"https?://|innerHTML|insertAdjacent|document\.write|eval\(", body)


def test_a_login_ends(callers: list[Caller]) -> None:
    from starlette.requests import Request
    from starlette.responses import Response

    from stockade_server import Key, digest_of
    from stockade_server.logins import Logins

    now = 0.0
    logins = Logins({"one": Key(digest_of("x"))}, lambda: now)
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "query_string": b""}
    scope |= {"headers": [], "scheme": "https", "server": ("localhost", 443)}
    response = Response()
    logins.enter(Request(scope), "x", response)
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-stockade=") and "; Secure" in cookie
    scope["headers"] = [(b"cookie", cookie.partition(";")[0].encode())]
    found = logins.of(Request(scope))
    assert found is not None and found.owner == "one"
    assert logins.of(Request({**scope, "scheme": "http"})) is None
    now += 12 * 3600 + 1
    assert logins.of(Request(scope)) is None


def test_behind_a_named_proxy_the_login_is_of_its_https(tmp_path: Path) -> None:
    file = tmp_path / "stockade.toml"
    named = 'proxies = ["127.0.0.1"]'
    file.write_text(f'[serve]\n{named}\n[serve.templates.base]\nprovider = "local"\n')
    file.chmod(0o600)
    key = made_key(file, "one")
    with serving("--config", str(file), key=key) as served:
        form = urlencode({"key": key}).encode()
        sent = {"content_type": "application/x-www-form-urlencoded", "host": "box.example"}
        sent |= {"origin": "https://box.example", "x_forwarded_proto": "https"}
        caller = Caller(served.url, key)
        status, headers, _ = ask(caller, "POST", "/ui/login", form, **sent)
        assert status == 303
        assert headers["set-cookie"].startswith("__Host-stockade=")
        assert "Secure" in headers["set-cookie"].split("; ")
        del sent["x_forwarded_proto"]
        assert ask(caller, "POST", "/ui/login", form, **sent)[0] == 403


def test_without_keys_only_this_machines_browsers_look() -> None:
    with serving("--insecure", "--template", "base=local") as served:
        caller = Caller(served.url, "")
        found = json.loads(ask(caller, "GET", "/ui/sandboxes")[2])
        assert found["sandboxes"] == [] and found["login"] is False
        assert ask(caller, "GET", "/ui/sandboxes", host="rebound.example")[0] == 403
        end, guard = "/ui/sandboxes/x/end", {"x_stockade_guard": found["guard"]}
        assert ask(caller, "POST", end, **guard)[0] == 403
        assert ask(caller, "POST", end, origin=served.url, **guard)[0] == 404


# -- what it shows -----------------------------------------------------------------------


def test_who_only_looks_holds_no_program_back(callers: list[Caller]) -> None:
    caller = callers[0]
    made = create(caller)
    mine, looking = entered(caller), caller.connection()
    path = f"/ui/sandboxes/{made.sandbox_id}/output"
    looking.request("GET", path, headers={"cookie": mine["cookie"]})
    assert looking.getresponse().readline() == b": live\n"
    began = time.monotonic()
    line = "sleep 1; head -c 60000000 /dev/zero | tr '\\0' x; echo; echo done"
    status, _ = made.stream("process.Process/Start", start(line))
    assert status == 200 and time.monotonic() - began < 60
    looking.close()
    log = json.loads(ask(caller, "GET", "/ui/sandboxes", **mine)[2])["sandboxes"][0]
    assert log["verdict"] == "exit status 0"
    assert ask(caller, "POST", f"/ui/sandboxes/{made.sandbox_id}/end", **mine)[0] == 204
    assert caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[0] == 404


def test_a_command_that_speaks_of_an_end_is_not_taken_for_one(callers: list[Caller]) -> None:
    caller = callers[0]
    made, mine = create(caller), entered(caller)

    def verdict() -> str:
        shown = json.loads(ask(caller, "GET", "/ui/sandboxes", **mine)[2])["sandboxes"]
        found: str = next(one for one in shown if one["id"] == made.sandbox_id)["verdict"]
        return found

    assert verdict() == ""
    made.stream("process.Process/Start", start("exit 4"))
    made.begin("/bin/sh", "-c", "sleep 60; : it ended: well")
    assert verdict() == "exit status 4"
    assert caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")[0] == 204


def test_a_browser_shows_it_and_runs_nothing_from_inside(callers: list[Caller], made: Made) -> None:
    caller = callers[0]
    made.stream("process.Process/Start", start("exit 3"))
    with browsing() as page:
        page.go(f"{caller.url}/ui")
        page.until("!!document.getElementById('key')")
        page.value(f"document.getElementById('key').value = {json.dumps(caller.key)}")
        page.value("document.querySelector('form').requestSubmit()")
        page.until(f"document.body.innerText.includes('{made.sandbox_id}')")
        row = page.value("document.querySelector('tbody tr').innerText")
        assert "running" in row and "base" in row and "exit status 3" in row
        if file := os.environ.get("STOCKADE_SCREENSHOT"):
            pictured(caller, page, Path(file))
        page.value(f"choose({json.dumps(made.sandbox_id)})")
        page.until("!document.getElementById('one').hidden")
        shown = json.dumps(_HOSTILE)
        page.until(f"document.getElementById('metadata').textContent.includes({shown})")
        says = f"printf '%s %s\\n' $i {_quoted(_HOSTILE)}"
        line = f"for i in 1 2 3 4 5 6 7 8; do {says}; sleep 1; done"
        connection = caller.connection()
        headers = {name.replace("_", "-"): value for name, value in made.headers.items()}
        headers["content-type"] = "application/connect+json"
        connection.request("POST", "/process.Process/Start", start(line), headers)
        page.until(f"document.getElementById('output').textContent.includes({shown})")
        page.until("document.querySelector('tbody tr').innerText.includes('onerror')")
        assert page.value("document.title") == "stockade"
        assert page.value("document.querySelectorAll('img, main script').length") == 0
        assert page.value("document.cookie") == ""
        connection.close()
        page.value("[...document.querySelectorAll('tbody button')].pop().click()")
        page.until("document.getElementById('one').hidden")
        page.until("!document.getElementById('none').hidden")
        assert caller.ask("GET", f"/sandboxes/{made.sandbox_id}")[0] == 404
        page.value("document.getElementById('leave').click()")
        page.until("!!document.getElementById('key')")
        assert all(one.startswith(caller.url) for one in page.asked), page.asked
        troubles = [one for one in page.complaints if "favicon" not in one]
        assert troubles == [], troubles


def pictured(caller: Caller, page: Page, file: Path) -> None:
    """For the documentation: a sandbox at its work."""
    made = create(caller, metadata={"task": "fix the parser", "run": "7"})
    made.stream("process.Process/Start", start("python3 -m compileall -q ."))
    page.value(f"choose({json.dumps(made.sandbox_id)})")
    line = "for i in 1 2 3 4 5 6; do echo test_parser.py::test_$i PASSED; sleep 0.5; done"
    until = "document.getElementById('output').textContent.includes('test_5')"
    page.until("!document.getElementById('one').hidden")
    connection = caller.connection()
    headers = {name.replace("_", "-"): value for name, value in made.headers.items()}
    headers["content-type"] = "application/connect+json"
    connection.request("POST", "/process.Process/Start", start(line), headers)
    page.until(until)
    page.value("look()")
    page.picture(file)
    connection.close()
    caller.ask("DELETE", f"/sandboxes/{made.sandbox_id}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
