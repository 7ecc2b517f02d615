"""One session: one sandbox of the service, with the supervisor as a process that is held open."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

from stockade.errors import DestroyError, SandboxLostError, SandboxStartError
from stockade.toolkit.supervised import Death, Link, LinkLost, SupervisedSandbox
from stockade.wall import OpenRequest
from stockade_e2b import renewing
from stockade_e2b.figures import Figures
from stockade_e2b.service import Service, failed_start, is_gone, is_refused, words_of
from stockade_e2b.start import PROGRAMS, Started, refused_by_sandbox, start_supervisor

__all__ = ["E2bSandbox", "end_sandbox", "made"]

_ASK_SECONDS = 20.0
_SETTLE_SECONDS = 3.0
#: A pause writes the sandbox's memory somewhere.
_PAUSE_SECONDS = 120.0
#: A durable one's end at the service comes this much after the session's own.
_GRACE_SECONDS = 5.0


def made(service: Service, request: OpenRequest, template: str, marks: Mapping[str, str]) -> Any:
    """A sandbox of the service. Raises SandboxStartError, and leaves none behind (C5)."""
    from e2b import Sandbox, SandboxException

    config = request.config

    def create(wanted: float) -> Any:
        seconds = max(1, math.ceil(wanted))
        return Sandbox.create(
            template,
            timeout=seconds,
            metadata=dict(marks),
            allow_internet_access=_wants_network(request),
            # What the SDK tries again makes no second one.
            idempotency_key=f"{request.session_id.lower()}-{seconds}",
            request_timeout=config.startup_timeout_seconds,
            **service.options,
        )

    try:
        if not config.durable or request.expires_at is None:
            return create(request.options["timeout"])
        left = request.expires_at - time.time()
        try:
            return create(left + _GRACE_SECONDS)  # so that core's own end comes first
        except SandboxException as error:
            if not is_refused(error):
                raise
            return create(left)
    except Exception as error:
        failed = failed_start(f"the service at {service.name} made no sandbox", error)
        if failed.retryable and not failed.nothing_began:
            _end_late(service, marks)
        raise failed from error


def _wants_network(request: OpenRequest) -> bool:
    """The service's own; allowed hosts are reached by way of this process (E10)."""
    return request.config.network_enabled and not request.config.network_allow


def _end_late(service: Service, marks: Mapping[str, str]) -> None:
    """What came to be although nobody heard of it; what comes later, gc finds."""
    from e2b import Sandbox, SandboxQuery

    with contextlib.suppress(Exception):
        options = {**service.options, "request_timeout": _ASK_SECONDS, "retries": 0}
        query = SandboxQuery(metadata=dict(marks))
        for found in Sandbox.list(query=query, **options).next_items():
            Sandbox.kill(found.sandbox_id, **options)


def end_sandbox(service: Service, sandbox_id: str) -> None:
    """End one; gone already is well too. Raises DestroyError."""
    from e2b import Sandbox

    try:
        Sandbox.kill(sandbox_id, request_timeout=_ASK_SECONDS, **service.options)
    except Exception as error:
        if not is_gone(error):
            raise DestroyError(
                f"the sandbox {sandbox_id} could not be ended: {words_of(error)}; try again when "
                "the service answers."
            ) from error


class E2bSandbox(SupervisedSandbox):
    """Over a sandbox of the service; whoever made that ends it where this raises."""

    def __init__(self, service: Service, sandbox: Any, request: OpenRequest, template: str) -> None:
        self.box = sandbox
        self.kill_seconds = float(request.options["kill_seconds"])
        self._service = service
        timeout = request.options["timeout"]
        self._renewed = renewing.Renewed(sandbox, timeout, request.expires_at, self._gone)
        self._puts_off = not request.config.durable or request.expires_at is None
        self.figures = Figures.asked(sandbox)
        started = _started(sandbox, request, template)
        self._transport = started.transport
        link = Link(self._transport)
        self._transport.on_failure = link.fail
        if started.rooted:
            link.user = (PROGRAMS, PROGRAMS)
        try:
            link.begin_handshake()
            super().__init__(link, startup_seconds=request.config.startup_timeout_seconds)
            self.figures.wait()
            if self.figures.offline and _wants_network(request):
                raise SandboxStartError(
                    f"network_enabled=True was asked, and the service gives {template} no network; "
                    "take another template, or leave network_enabled out.",
                    retryable=False,
                )
            if self._puts_off:
                renewing.begin(self._renewed)
        except BaseException as error:
            link.close()
            if isinstance(error, LinkLost):
                refused = refused_by_sandbox(self._transport, request.config, template)
                raise refused or SandboxStartError(
                    f"the sandbox of {template} started and its supervisor did not answer: {error}."
                ) from error
            raise

    @property
    def sandbox_id(self) -> str:
        """The service's own word for it."""
        return str(self.box.sandbox_id)

    # -- the Sandbox interface ---------------------------------------------------------

    def limits(self) -> Mapping[str, float | None]:
        return self.figures.limits(self._transport.stderr)

    def expire_at(self, when: float | None) -> None:
        super().expire_at(when)
        self._renewed.expires_at = when

    # -- what SupervisedSandbox asks for -----------------------------------------------

    def _gone(self, why: str) -> None:
        self.link.fail(LinkLost(why))

    def post_mortem(self, *, settle: bool) -> Death | None:
        until = time.monotonic() + (_SETTLE_SECONDS if settle else 0.0)
        while True:
            try:
                self.box.get_info(request_timeout=_ASK_SECONDS)
            except Exception as error:
                if is_gone(error):
                    return Death("the service has ended it, or somebody did")
                return Death(f"the service does not answer: {words_of(error)}")
            if self._transport.exit_code is not None:
                return Death(f"its supervisor has ended with code {self._transport.exit_code}")
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def force_end(self) -> None:
        with contextlib.suppress(DestroyError):
            end_sandbox(self._service, self.sandbox_id)

    def freeze(self, yes: bool) -> None:
        if yes:
            self._transport.hold()
            self._renewed.paused = True
        try:
            if yes:
                self.box.pause(request_timeout=_PAUSE_SECONDS)
            else:
                self._resume()
                self._runs()
        except Exception as error:
            if yes:
                self._runs()
            raise SandboxLostError(f"the service could not do it: {words_of(error)}") from error

    def _runs(self) -> None:
        self._renewed.paused = False
        self._transport.go_on()

    def _resume(self) -> None:
        """Without a new timeout where the service does not keep it for so long."""
        ends = self._renewed.expires_at
        left = self._renewed.timeout if self._puts_off or ends is None else ends - time.time()
        try:
            self.box.connect(timeout=max(1, math.ceil(left)), request_timeout=_PAUSE_SECONDS)
        except Exception as error:
            if not is_refused(error):
                raise
            self.box.connect(request_timeout=_PAUSE_SECONDS)

    def release(self) -> None:
        renewing.end(self._renewed)
        super().release()

    def detach(self) -> None:
        self.release()
        # So that no supervisor stays in the sandbox, also where this process ends now.
        self._transport.wind_down(_ASK_SECONDS)

    def destroy(self) -> None:
        end_sandbox(self._service, self.sandbox_id)


def _started(sandbox: Any, request: OpenRequest, template: str) -> Started:
    """With the supervisor of its machine. Raises SandboxStartError."""
    try:
        return start_supervisor(sandbox, request.config)
    except LinkLost as error:
        raise SandboxStartError(f"{template}: {error}.") from error
