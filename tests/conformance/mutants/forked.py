"""Mutants of C12: what goes wrong where a session and a fork meet."""

from __future__ import annotations

from conformance.mutants.selecting import _plugin

_CHECK = "C12_a_session_stays_with_its_process"

FORKED = [
    # Core broken, in the process that the check starts: there a plug-in is all that runs.
    _plugin(
        _CHECK,
        "the-parents-session-is-used",
        more="""
from stockade.sessions._registry import SessionRecord
SessionRecord.here = lambda self: None
""",
        target="",
        factor=0.25,
        says="ForkedSessionError",
    ),
    _plugin(
        _CHECK,
        "no-new-session-in-the-child",
        more="""
from stockade.sessions._runtime import Runtime
# A thread of the parent's may have held it at the fork; most often none does.
Runtime._renew = lambda self: self.workers._lock.acquire()
""",
        target="",
        factor=0.25,
        says="new",
    ),
    _plugin(
        _CHECK,
        "the-childs-end-ends-it",
        wall="""
    def open(self, request):
        import atexit
        sandbox = super().open(request)
        atexit.register(sandbox.close)
        return sandbox
""",
        target="",
        factor=0.25,
        says="as they were",
    ),
]
