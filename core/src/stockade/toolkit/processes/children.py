"""Programs of this machine, whose ends are known whatever this process does with SIGCHLD.

A process that ignores SIGCHLD (some servers do, and so may its parent) never
learns how a child ended: the system forgets the exit code, and Python takes 0 for it. Its
children ignore the signal too, and then some hang that wait for children of their own. So
there a small interpreter of our own stands between: it listens to the signal, starts the
program, and reports its end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["Child", "run"]

# Arguments: the descriptor to report on, whom to become, the program. What Python itself
# ignores is the program's again.
_BETWEEN = """
import json, os, signal, sys
for number in (signal.SIGCHLD, signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE)):
    signal.signal(number, signal.SIG_DFL)
report, ids, argv = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
pid = os.fork()
if pid == 0:
    code = 126
    try:
        os.close(report)
        if "extra_groups" in ids:
            os.setgroups(ids["extra_groups"])
        if "group" in ids:
            os.setgid(ids["group"])
        if "user" in ids:
            os.setuid(ids["user"])
        os.execvp(argv[0], argv)
    except FileNotFoundError:
        code = 127
    finally:
        os._exit(code)
for descriptor in (0, 1, 2):
    os.close(descriptor)
status = os.waitpid(pid, 0)[1]
os.write(report, str(os.waitstatus_to_exitcode(status)).encode())
"""


class Child(subprocess.Popen[Any]):
    """A ``subprocess.Popen`` whose ``returncode`` is right. Raises OSError as that does.

    Where this process ignores SIGCHLD the program is the child of a child, in a session
    of its own: ``pid`` and the signals sent through here mean its process group.
    """

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        self._report = -1
        if not ignores_ends():
            super().__init__(argv, **options)
            return
        if not sys.executable:
            raise OSError(
                "this process ignores SIGCHLD, so the ends of its programs are not reported; "
                "call signal.signal(signal.SIGCHLD, signal.SIG_DFL) first."
            )
        ids = {name: options.pop(name) for name in _IDS if name in options}
        self._report, theirs = os.pipe()
        try:
            super().__init__(
                [sys.executable, "-I", "-S", "-c", _BETWEEN, str(theirs), json.dumps(ids), *argv],
                **{**options, "start_new_session": True, "pass_fds": (theirs,)},
            )
        except BaseException:
            self._reported()
            raise
        finally:
            os.close(theirs)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        super().poll()
        return self._settled()

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended. Raises subprocess.TimeoutExpired."""
        super().wait(timeout)
        code = self._settled()
        assert code is not None
        return code

    @property
    def apart(self) -> bool:
        """Whether ``pid`` is not the program's own, but its process group's."""
        return self._report >= 0

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._report < 0:
            super().send_signal(sig)
        elif self.poll() is None:
            os.killpg(self.pid, sig)

    def _settled(self) -> int | None:
        """The code that was reported, in place of the one that the system forgot."""
        if self.returncode is not None and self._report >= 0:
            self.returncode = self._reported()
        return self.returncode

    def _reported(self) -> int:
        """What was reported; nothing where all of it was killed before."""
        try:
            said = os.read(self._report, 16)
        finally:
            os.close(self._report)
            self._report = -1
        return int(said) if said else -signal.SIGKILL


_IDS = ("user", "group", "extra_groups")


def ignores_ends() -> bool:
    """Whether this process ignores SIGCHLD, as far as Python knows."""
    number = getattr(signal, "SIGCHLD", None)  # Windows has none, and nothing to ignore
    return number is not None and signal.getsignal(number) is signal.SIG_IGN


def run(argv: Sequence[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[Any]:
    """As ``subprocess.run`` with ``check=False``, with the right code. Raises OSError, and
    subprocess.TimeoutExpired after which nothing of it runs."""
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Child(argv, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)
