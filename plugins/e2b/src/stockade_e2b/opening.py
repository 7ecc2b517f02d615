"""Sessions opened and attached to."""

from __future__ import annotations

import contextlib
from typing import Any

from stockade.errors import DestroyError, SandboxLostError
from stockade.toolkit.egress import WayOut
from stockade.wall import AttachRequest, OpenRequest, Sandbox
from stockade_e2b.durable import AttachedBox
from stockade_e2b.leftovers import find, marks_of
from stockade_e2b.sandbox import E2bSandbox, end_sandbox, made
from stockade_e2b.service import Service, failed_start, words_of

__all__ = ["attached", "opened"]


def opened(
    service: Service, template: str, request: OpenRequest, way_out: WayOut | None
) -> Sandbox:
    """A new sandbox of the service. Raises as ``Wall.open``, and leaves none behind (C5)."""
    box = made(service, request, template, marks_of(request))
    try:
        sandbox = _over(service, box, template, request, way_out)
    except BaseException:
        with contextlib.suppress(DestroyError):  # its timeout ends it then
            end_sandbox(service, box.sandbox_id)
        raise
    return AttachedBox(service, box.sandbox_id, sandbox) if request.config.durable else sandbox


def attached(
    service: Service, template: str, request: AttachRequest, way_out: WayOut | None
) -> Sandbox:
    """Over one that runs already. Raises as ``Wall.attach``."""
    try:
        found = find(service, request.session_id)
    except Exception as error:
        raise failed_start("the service does not answer", error) from error
    if found is None:
        raise SandboxLostError(
            f"the sandbox of session {request.session_id} is gone; open a new session."
        )

    def reach() -> E2bSandbox:
        from e2b import Sandbox as Box

        try:
            box = Box.connect(found.sandbox_id, **service.options)
            return _over(service, box, template, request, way_out)
        except Exception as error:
            raise SandboxLostError(
                f"the sandbox does not answer: {words_of(error)}; destroy the session and open a "
                "new one."
            ) from error

    return AttachedBox(service, found.sandbox_id, reach)


def _over(
    service: Service, box: Any, template: str, request: OpenRequest, way_out: WayOut | None
) -> E2bSandbox:
    sandbox = E2bSandbox(service, box, request, template)
    try:
        if way_out is not None:
            sandbox.open_egress(way_out)
        if request.config.ports:
            sandbox.publish(request.config.ports)
        if not request.config.durable:
            sandbox.expire_at(request.expires_at)
    except BaseException:
        sandbox.detach()
        raise
    return sandbox
