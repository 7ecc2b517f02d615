"""What a service holds of stockade's, as any process finds it: for ``gc``."""

from __future__ import annotations

from typing import Any

from stockade.system.moments import moment, read_moment
from stockade.wall import Leftover, OpenRequest
from stockade_e2b.service import Service

__all__ = ["all_of", "find", "marks_of"]

_MARK = "stockade-"
_PAGE = 100
_MOST_PAGES = 100
_ASK_SECONDS = 20.0


def marks_of(request: OpenRequest) -> dict[str, str]:
    """What is written on a sandbox in the step that makes it."""
    marks = {"session": request.session_id, "owner": request.owner}
    if request.expires_at is not None:
        marks["expires"] = moment(request.expires_at)
    if request.config.durable:
        marks["durable"] = "1"
    return {_MARK + name: value for name, value in marks.items()}


def all_of(service: Service) -> list[Leftover]:
    """Every sandbox of the account that bears the marks. Raises what the SDK raises."""
    return [_leftover(one) for one in _listed(service) if _MARK + "session" in one.metadata]


def find(service: Service, session_id: str) -> Any:
    """What the service says of a session's sandbox, or None."""
    found = _listed(service, {_MARK + "session": session_id})
    return found[0] if found else None


def _listed(service: Service, marks: dict[str, str] | None = None) -> list[Any]:
    from e2b import Sandbox, SandboxQuery

    query = SandboxQuery(metadata=marks) if marks else None
    options = {**service.options, "request_timeout": _ASK_SECONDS}
    pages = Sandbox.list(query=query, limit=_PAGE, **options)
    found: list[Any] = []
    for _ in range(_MOST_PAGES):
        if not pages.has_next:
            return found
        found += pages.next_items()
    raise RuntimeError(f"the account has more than {_PAGE * _MOST_PAGES} sandboxes")


def _leftover(info: Any) -> Leftover:
    marks: dict[str, str] = info.metadata
    return Leftover(
        session_id=marks[_MARK + "session"],
        handle=info.sandbox_id,
        owner=marks.get(_MARK + "owner", ""),
        expires_at=read_moment(marks.get(_MARK + "expires", "")),
        durable=marks.get(_MARK + "durable") == "1",
        created_at=info.started_at.timestamp(),
        words=f"sandbox {info.sandbox_id} ({getattr(info.state, 'value', info.state)})",
    )
