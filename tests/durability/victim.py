"""A process that uses a session and kills itself at one step of it; run by the crash test.

Everything that makes it die is here: functions of the product are wrapped in this
process alone. Prints its owner's text, then the session's id, as soon as each is known.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

#: Wall by wall and phase by phase: "module:name" of what is stepped through, and whether
#: the process dies before or after it.
Step = tuple[str, str, str]
_INTEND = "stockade.ledger._sqlite:SqliteLedger.intend"
_FORGET = "stockade.ledger._sqlite:SqliteLedger.forget"

_CORE: list[Step] = [
    ("create", _INTEND, "before"),
    ("create", _INTEND, "after"),
    ("create", "stockade.sessions._runtime:Runtime._open", "after"),
    ("create", "stockade.sessions._runtime:Runtime.create", "after"),
    ("execute", "stockade.executions._execution:Execution.begin", "after"),
    ("execute", "stockade.executions._execution:Execution._settle", "before"),
    ("execute", "stockade.session:Session.shell", "after"),
    ("snapshot", "stockade.files._snapshots:take", "before"),
    ("snapshot", "stockade.toolkit.supervised.link:Link.builtin", "after"),
    ("snapshot", "stockade.files._snapshots:Snapshot.save", "after"),
    ("destroy", "stockade.sessions._ending:_take", "after"),
    ("destroy", "stockade.sessions._runtime:Runtime.destroy", "after"),
    ("destroy", _FORGET, "before"),
    ("destroy", _FORGET, "after"),
]
_CONTAINERS: list[Step] = [
    ("create", "docker:APIClient.create_container", "before"),
    ("create", "docker:APIClient.create_container", "after"),
    ("create", "docker:APIClient.start", "before"),
    ("create", "docker:APIClient.start", "after"),
    ("create", "stockade.toolkit.supervised.link:Link.handshake", "after"),
    ("execute", "stockade.toolkit.supervised.sandbox:SupervisedSandbox.start", "after"),
    ("destroy", "docker:APIClient.remove_container", "before"),
    ("destroy", "docker:APIClient.remove_container", "after"),
]
_ATTACHED: list[Step] = [("create", "docker:APIClient.attach_socket", "after")]
_LANDLOCK: list[Step] = [
    ("create", "subprocess:Popen.__init__", "after"),
    ("create", "stockade.toolkit.local.messages:send", "after"),
    ("create", "stockade.toolkit.local.messages:receive", "after"),
    ("create", "stockade.toolkit.supervised.link:Link.handshake", "after"),
    ("create", "stockade.toolkit.local.process:KeeperProcess.ready", "after"),
    ("destroy", "stockade.toolkit.local.process:KeeperProcess.end", "before"),
    ("destroy", "stockade.toolkit.local.process:KeeperProcess.end", "after"),
]
_PODS: list[Step] = [
    ("create", "stockade_kubernetes.opening:Opening._made", "before"),
    ("create", "stockade_kubernetes.opening:Opening._made", "after"),
    ("create", "stockade_kubernetes.opening:until_runs", "after"),
    ("create", "stockade_kubernetes.opening:attached", "after"),
    ("create", "stockade.toolkit.supervised.link:Link.handshake", "after"),
    ("execute", "stockade.toolkit.supervised.sandbox:SupervisedSandbox.start", "after"),
    ("destroy", "stockade_kubernetes.sandbox:remove_pod", "before"),
    ("destroy", "stockade_kubernetes.sandbox:remove_pod", "after"),
]
#: Beside those: at a moment that nobody chose, this many parts of a second into the phase.
_MOMENTS = {"create": 0.4, "execute": 0.08, "snapshot": 0.1, "destroy": 0.15}
_SOMETIME: list[Step] = [(phase, "sometime", "after") for phase in _MOMENTS]


def steps(wall: str) -> list[Step]:
    """Every step of a session behind that wall at which a process may die."""
    if wall.startswith("landlock"):
        return [*_CORE, *_LANDLOCK, *_SOMETIME]
    if wall.startswith("kubernetes"):
        return [*_CORE, *_PODS, *_SOMETIME]
    found = [*_CORE, *_CONTAINERS, *_SOMETIME]
    if "durable=true" in wall:
        # Once it is made it lives on, by design; what is half made or half gone must not.
        made = {"stockade.sessions._runtime:Runtime.create", "sometime"}
        return [s for s in found if s[0] in ("create", "destroy") and s[1] not in made]
    return [*found, *_ATTACHED]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class _Hook:
    """Kills this process at a step, once its phase has begun."""

    def __init__(self, step: Step, share: float) -> None:
        self.phase, self.target, self.when = step
        self._share = share
        self._now = ""
        if self.target != "sometime":
            self._wrap()

    def begin(self, phase: str) -> None:
        self._now = phase
        if phase == self.phase and self.target == "sometime":
            timer = threading.Timer(_MOMENTS[phase] * self._share, _die)
            timer.daemon = True
            timer.start()

    def end(self, phase: str) -> None:
        if phase == self.phase:
            if self.target == "sometime":
                _die()  # it was quicker than thought
            print(f"never came to {self.phase} {self.when} {self.target}", flush=True)
            os._exit(3)

    def _wrap(self) -> None:
        module, _, path = self.target.partition(":")
        *owners, name = path.split(".")
        holder: Any = importlib.import_module(module)
        for owner in owners:
            holder = getattr(holder, owner)
        function: Callable[..., Any] = getattr(holder, name)

        @functools.wraps(function)
        def stepped(*args: Any, **kwargs: Any) -> Any:
            if self._now == self.phase and self.when == "before":
                _die()
            answer = function(*args, **kwargs)
            if self._now == self.phase:
                time.sleep(0.05 * self._share)  # a program that was started gets to run
                _die()
            return answer

        setattr(holder, name, stepped)
        for other in list(sys.modules.values()):  # and where it was imported by name
            if getattr(other, "__name__", "").startswith("stockade"):
                for known, value in list(vars(other).items()):
                    if value is function:
                        setattr(other, known, stepped)


def main() -> None:
    wall, phase, target, when, share, folder = sys.argv[1:]
    import stockade
    from stockade import session
    from stockade.files import _snapshots as snapshots
    from stockade.system.owner import Owner

    print(Owner.current(), flush=True)
    for part in (
        "session",
        "files._snapshots",
        "executions._execution",
        "toolkit.supervised.sandbox",
        "toolkit.supervised.link",
    ):
        importlib.import_module(f"stockade.{part}")
    stockade.provider(wall)  # its modules too, before they are wrapped
    hook = _Hook((phase, target, when), float(share))
    hook.begin("create")
    opened = session.open_session(wall)
    hook.end("create")
    print(opened.session_id, flush=True)
    hook.begin("execute")
    daemon = f"setsid sleep {os.environ['STOCKADE_TEST_MARK']}"
    opened.shell(f"echo x >/workspace/x; ({daemon} &) ; sleep 0.05")
    hook.end("execute")
    hook.begin("snapshot")
    snapshot: snapshots.Snapshot = opened.snapshot()
    snapshot.save(os.path.join(folder, f"{os.getpid()}.snapshot"))
    hook.end("snapshot")
    hook.begin("destroy")
    opened.close()
    hook.end("destroy")


if __name__ == "__main__":
    main()
