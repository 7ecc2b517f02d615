"""What each route does, in a line: for ``/docs``. A test holds it to the routes themselves."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["BODIES", "KEY", "OPEN", "OPERATIONS", "TOKEN", "Operation"]

OPEN, KEY, TOKEN = "open", "key", "token"  #: what a caller needs
_JSON, _EVENTS = "application/json", "application/connect+json"
_OCTETS = "application/octet-stream"


@attrs.frozen
class Operation:
    """One method of one path."""

    group: str
    summary: str
    needs: str = KEY
    status: int = 200  #: of success
    query: tuple[str, ...] = ()
    #: Fields of the body, and their types; None: there is none.
    body: Mapping[str, str] | None = None
    required: tuple[str, ...] = ()  #: of these fields
    takes: str = _JSON
    answers: str | None = _JSON  #: None: the answer has no body


_S, _F, _P, _C, _O = "Sandboxes", "Files", "Commands", "Code", "The operator's"
_ONE = "/sandboxes/{sandbox_id}"
_PAGE = ("limit", "nextToken")
_SECONDS = {"timeout": "integer"}
_CREATED = {
    "templateID": "string",
    **_SECONDS,
    "metadata": "object",
    "envVars": "object",
    "autoPause": "boolean",
    "autoResume": "object",
    "allow_internet_access": "boolean",
    "network": "object",
}
_CREATE = Operation(_S, "Make a sandbox", KEY, 201, (), _CREATED, ("templateID",))
_CONNECT = Operation(_S, "Get a sandbox's tokens, and resume it", body=_SECONDS)
_LOGS = ("cursor", "start", "limit", "direction", "level", "search")
_LISTED = ("metadata", "state", "template", "startedAfter", "order", *_PAGE)
_CONTEXT = {"language": "string", "cwd": "string"}
_CODE = {"code": "string", "language": "string", "context_id": "string", "env_vars": "object"}
_LINES = "application/x-ndjson"
_TEXT = "text/plain"
_PATH = ("path", "username", "signature", "signature_expiration")

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v2/sandboxes"): _CREATE,
    ("POST", "/sandboxes"): _CREATE,
    ("GET", "/v2/sandboxes"): Operation(_S, "List your sandboxes, by pages", query=_LISTED),
    ("GET", "/sandboxes/metrics"): Operation(
        _S, "What several use, by their ids", query=("sandbox_ids",)
    ),
    ("GET", _ONE): Operation(_S, "Describe a sandbox"),
    ("DELETE", _ONE): Operation(_S, "End a sandbox", status=204, answers=None),
    ("POST", f"{_ONE}/timeout"): Operation(
        _S, "Set when it ends, from now on", KEY, 204, (), _SECONDS, ("timeout",), answers=None
    ),
    ("POST", f"{_ONE}/refreshes"): Operation(
        _S, "Put off its end", KEY, 204, (), {"duration": "integer"}, answers=None
    ),
    ("POST", f"{_ONE}/pause"): Operation(
        _S, "Stop its processes, in memory", KEY, 204, (), {"memory": "boolean"}, answers=None
    ),
    ("POST", f"{_ONE}/connect"): _CONNECT,
    ("POST", f"/v2{_ONE}/connect"): _CONNECT,
    ("PUT", f"{_ONE}/network"): Operation(
        _S, "Ask for network rules, which must be so already", KEY, 204, (), {}, answers=None
    ),
    ("GET", f"{_ONE}/metrics"): Operation(_S, "What it uses", query=("start", "end")),
    ("GET", f"{_ONE}/logs"): Operation(_S, "What was done with it", query=("start", "limit")),
    ("GET", f"/v2{_ONE}/logs"): Operation(_S, "What was done with it, by pages", query=_LOGS),
    ("POST", f"{_ONE}/fork"): Operation(
        _S, "Make sandboxes with its files", KEY, 201, (), {"count": "integer", **_SECONDS}
    ),
    ("POST", f"{_ONE}/snapshots"): Operation(
        _S, "Keep its files", KEY, 201, (), {"name": "string"}
    ),
    ("GET", "/snapshots"): Operation(
        _S, "List your snapshots, by pages", query=("sandboxID", "name", *_PAGE)
    ),
    ("GET", "/templates"): Operation(_S, "List the operator's templates, with their limits"),
    ("DELETE", "/templates/{template_id:path}"): Operation(
        _S, "Delete a snapshot", status=204, answers=None
    ),
    ("GET", "/files"): Operation(_F, "Read a file", TOKEN, query=_PATH, answers=_OCTETS),
    ("POST", "/files"): Operation(
        _F, "Write a file, or several as a form", TOKEN, query=_PATH, body={}, takes=_OCTETS
    ),
    ("POST", "/execute"): Operation(
        _C, "Run code, and stream what it gives", TOKEN, 200, (), _CODE, ("code",), answers=_LINES
    ),
    ("GET", "/contexts"): Operation(_C, "List contexts", TOKEN),
    ("POST", "/contexts"): Operation(_C, "Make a context", TOKEN, 201, body=_CONTEXT),
    ("DELETE", "/contexts/{context_id}"): Operation(_C, "End a context", TOKEN, 204, answers=None),
    ("POST", "/contexts/{context_id}/restart"): Operation(
        _C, "Give a context a new interpreter", TOKEN, 204, answers=None
    ),
    ("GET", "/health"): Operation(
        _O, "Whether the server runs, or a sandbox", OPEN, 204, answers=None
    ),
    ("GET", "/ready"): Operation(_O, "Whether sandboxes can be made", OPEN, 204, answers=None),
    ("GET", "/metrics"): Operation(_O, "Figures for Prometheus", answers=_TEXT),
}

_CALL = Operation(_P, "", TOKEN, body={})
_STREAM = Operation(_P, "", TOKEN, body={}, takes=_EVENTS, answers=_EVENTS)

#: Of the services that speak Connect: what each of their methods does.
BODIES: Mapping[str, Mapping[str, Operation]] = {
    f"/{service}/{{method}}": {
        name: attrs.evolve(kind, summary=summary, group=group)
        for name, (kind, summary) in methods.items()
    }
    for service, group, methods in (
        (
            "process.Process",
            _P,
            {
                "Start": (_STREAM, "Start a command or a terminal, and stream its events"),
                "Connect": (_STREAM, "Stream a running command's events"),
                "List": (_CALL, "List what runs"),
                "SendInput": (_CALL, "Write to a command's input"),
                "StreamInput": (_STREAM, "Stream input to a command"),
                "CloseStdin": (_CALL, "End a command's input"),
                "SendSignal": (_CALL, "Send SIGTERM or SIGKILL"),
                "Update": (_CALL, "Set a terminal's size"),
            },
        ),
        (
            "filesystem.Filesystem",
            _F,
            {
                "Stat": (_CALL, "Describe a file"),
                "ListDir": (_CALL, "List a folder"),
                "MakeDir": (_CALL, "Make a folder"),
                "Move": (_CALL, "Rename a file"),
                "Remove": (_CALL, "Remove a file or a folder"),
                "WatchDir": (_STREAM, "Stream the changes of a folder"),
                "CreateWatcher": (_CALL, "Watch a folder"),
                "GetWatcherEvents": (_CALL, "Take what a watcher saw"),
                "RemoveWatcher": (_CALL, "Watch no more"),
            },
        ),
    )
}
