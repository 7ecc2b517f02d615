"""Checks of D, fourth part: programs that turn against what runs them (D6, D16).

What a check does here to all processes that it can see would hurt a machine whose
processes they are. So each looks first whether the session has processes of its own, and
each such program looks once more before it begins.
"""

from __future__ import annotations

import functools
import os
import shlex
import time

import pytest

from stockade.capabilities import Feature, Isolation
from stockade.results import SandboxResult, Verdict
from stockade.session import Session
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.programs import beat, say, unique

__all__ = ["ATTACK", "LEAVES", "LOOK", "Hostile"]

#: Stands in every program that goes for all processes in sight, for walls that are none.
ATTACK = "# goes for every process in sight"
#: Stands in those that exit, so that nothing else puts right what they did.
LEAVES = "# and leaves"
#: Prints which processes these are: of which namespace, and of which kernel, since the first
#: namespace has one number on all of them.
LOOK = "readlink /proc/self/ns/pid; cat /proc/sys/kernel/random/boot_id 2>/dev/null"

#: What a program may change of itself, where its tree might be found by it.
_CHANGES = (
    "true",
    *(f"ulimit -d {1099511627776 - number}" for number in range(4)),
    "ulimit -d 1000000",
    "ulimit -c 7; ulimit -n 77; ulimit -f 77777",
    *(f"echo {weight} > /proc/self/oom_score_adj" for weight in (900, 899, 898, 1000)),
    "trap '' HUP INT QUIT TERM",
    "umask 077",
)

_PRINT = "i=0; while [ $i -lt 150 ]; do i=$((i+1)); echo forged; echo forged >&2; sleep 0.1; done"

#: Into every descriptor of every other process; some of these writes may block.
_WRITE = """
for p in /proc/[0-9]*; do
  [ $p = /proc/$$ ] && continue
  for f in 0 1 2 3 4 5 6 7 8 9 10 11 12; do
    [ -e $p/fd/$f ] && { (printf '\\0\\377forged\\n' > $p/fd/$f) & } 2>&-
  done
done 2>&-
sleep 300
"""

_SIGNAL = """
for p in /proc/[0-9]*; do
  [ $p = /proc/$$ ] || kill -{signal} ${{p#/proc/}}
done 2>&-
sleep 300
"""

#: PTRACE_ATTACH, which stops; held until the deadline.
_TRACE = """
import ctypes, os, time
libc = ctypes.CDLL(None)
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        libc.ptrace(16, int(name), None, None)
time.sleep(300)
"""

_BOMB = "b() { b | b & }; b; sleep 300"

#: To all at once and to one after another.
_SIGNAL_AND_LEAVE = f"""{LEAVES}
kill -{{signal}} -1
for p in /proc/[0-9]*; do
  [ $p = /proc/$$ ] || kill -{{signal}} ${{{{p#/proc/}}}}
done
exit 0
"""

#: What a program may want of others: that they open and write no file, have no cpu, get
#: nothing done, and are ended first. By the tools that are there, and by Python.
_HAMPER = f"""{LEAVES}
for p in /proc/[0-9]*; do
  n=${{p#/proc/}}
  [ $n = $$ ] && continue
  for limit in nofile=5:5 fsize=0:0 nproc=1:1 cpu=1:1; do prlimit --pid $n --$limit; done
  renice -n 19 -p $n; chrt -i -p 0 $n; ionice -c 3 -p $n
  echo 1000 > $p/oom_score_adj
done >/dev/null 2>&1
"""
_HAMPER_TOO = """
import os, resource
for name in os.listdir("/proc"):
    if not name.isdigit() or int(name) == os.getpid():
        continue
    for which, most in ((resource.RLIMIT_NOFILE, 5), (resource.RLIMIT_FSIZE, 0),
                        (resource.RLIMIT_NPROC, 1), (resource.RLIMIT_CPU, 1)):
        try:
            resource.prlimit(int(name), which, (most, most))
        except OSError:
            pass
"""
#: Leaves a process that goes for the output and the memory of every other process while others
#: run, and notes what was open to it. ``OWN`` stands for the machine's processes.
_REACH = f"""
import os, time
{ATTACK} {LEAVES}
try:
    seen = os.readlink("/proc/self/ns/pid") + "\\n"
    seen += open("/proc/sys/kernel/random/boot_id").read().strip()
except OSError:
    seen = ""
if seen == OWN:
    os._exit(99)
own = os.getpid()
if not os.fork():
    os.setsid()
    while os.getppid() == own:
        time.sleep(0.01)
    time.sleep(0.3)  # what is its own execution's has ended
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    before = set(os.listdir("/proc"))
    open("began", "w").close()
    end = time.time() + 60
    while time.time() < end and not os.path.exists("enough"):
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            for path, flags in (("fd/1", os.O_WRONLY), ("mem", os.O_RDWR)):
                try:
                    opened = os.open("/proc/" + name + "/" + path, flags | os.O_NONBLOCK)
                    with open("reached", "a") as notes:
                        notes.write(path + (" of who was there\\n" if name in before else "\\n"))
                    if path == "fd/1":
                        os.write(opened, b"forged\\n")
                    os.close(opened)
                except OSError:
                    pass
        time.sleep(0.01)
    os._exit(0)
"""
_CIRCUMSTANCES = """
import os
print(os.popen("ulimit -a").read(), os.getpriority(os.PRIO_PROCESS, 0),
      os.sched_getscheduler(0), open("/proc/self/oom_score_adj").read())
"""


class Hostile(ConformanceBase):
    """What a program does to itself, and to others, harms it alone."""

    def test_D6_no_change_of_its_own_saves_a_program(self) -> None:
        self.need(Feature.SHELL)
        with self.session() as session:
            if session.provider.wall.isolation is Isolation.NONE:
                pytest.skip("this wall isolates nothing: it holds no program that means to leave")
            paths = {f"beat{number}": change for number, change in enumerate(_CHANGES)}
            programs = [_left_behind(f"{change}; {beat(path)}") for path, change in paths.items()]
            session.shell("".join(f": > {path}; " for path in paths))
            began = time.monotonic()
            result = session.shell("; ".join([*programs, "sleep 300"]), timeout=self.scaled(2.0))
            self.within("D6", 5.0, began, "the end")
            expect(result.verdict is Verdict.TIMED_OUT, "D6", "timed out", result)
            first = self._sizes(session)
            expect({"0"} != set(first.values()), "D6", "heartbeats of these programs", first)
            self.wait(0.6)
            later = self._sizes(session)
            alive = [change for path, change in paths.items() if later[path] != first[path]]
            expect(not alive, "D6", "no program left, whatever it changed of itself", alive)

    def _sizes(self, session: Session) -> dict[str, str]:
        lines = session.shell("for f in beat*; do echo $f $(wc -c < $f); done").stdout
        return dict(line.split() for line in lines.splitlines())

    def test_D6_a_bomb_with_a_deadline_leaves_the_session_usable(self) -> None:
        self.need(Feature.PROCESSES, Feature.SHELL)
        with self.session(max_processes=64) as session:
            self._need_apart(session)
            if self.one_kernel(session):
                pytest.skip("one kernel holds program and session: its limit ends both (E4)")
            began = time.monotonic()
            self._attack(session, _BOMB, 1.0)
            self.within("D6", 4.0, began, "the end of a bomb")
            usable = self.until(lambda: self.run(session, say("x")).success, 10)
            expect(usable, "D6", "a usable session", "failure")
            self._speaks_for_itself(session)

    # -- what reports --------------------------------------------------------------

    def test_D16_what_outlives_its_execution_is_not_heard_in_the_next(self) -> None:
        self.need(Feature.SHELL)
        left = [_left_behind(f"{change}; {_PRINT}") for change in _CHANGES]
        for end, timeout in (("sleep 300", 1.0), ("exit 0", 20.0)):
            with self.session() as session:
                session.shell("; ".join([*left, end]), timeout=self.scaled(timeout))
                self._speaks_for_itself(session)

    def test_D16_writing_to_what_reports_changes_no_result(self) -> None:
        self.need(Feature.SHELL)
        with self.session() as session:
            self._need_apart(session)
            self._attack(session, _WRITE, 2.0)
            self._speaks_for_itself(session)

    def test_D16_signals_to_what_reports_cost_no_session(self) -> None:
        self.need(Feature.SHELL)
        for signal in ("STOP", "TERM", "HUP", "KILL"):
            with self.session() as session:
                self._need_apart(session)
                self._attack(session, _SIGNAL.format(signal=signal), 1.0)
                self._speaks_for_itself(session)

    def test_D16_tracing_what_reports_costs_no_session(self) -> None:
        self.need(Feature.SHELL, Feature.CODE)
        with self.session() as session:
            self.need_python(session)
            self._need_apart(session)
            if not session.code("import ctypes").success:
                pytest.skip("the Python in this sandbox has no ctypes")
            python = "$(command -v python3 || command -v python)"
            self._attack(session, f"{python} -c {shlex.quote(_TRACE)}", 2.0)
            self._speaks_for_itself(session)

    def test_D16_signals_to_who_waits_for_code_hold_none_up(self) -> None:
        """Of an interpreter that was made ahead, or keeps its variables for the next call."""
        self.need(Feature.SHELL, Feature.CODE)
        states = ("", "kept") if self.claims(Feature.STATEFUL) else ("",)
        with self.session() as session:
            self.need_python(session)
            self._need_apart(session)
            for signal in ("STOP", "TSTP", "INT", "TERM", "USR1", "KILL", "STOP"):
                for state in states:
                    self._code(session, "x = 1", state)
                self.wait(0.2)  # until somebody waits for the next
                attacked = self._attack(session, _SIGNAL_AND_LEAVE.format(signal=signal), 20.0)
                expect(attacked.verdict is not Verdict.TIMED_OUT, "D16", "an end", attacked)
                for state in states:
                    word = unique("own")
                    said = self._code(session, f"print({word!r})", state)
                    seen = (said.stdout, said.stderr, said.exit_code)
                    expect(seen == (f"{word}\n", "", 0), "D16", f"code after {signal}", said)

    def _code(self, session: Session, text: str, state: str = "") -> SandboxResult:
        """Run it in the interpreter of that name, or in a clean one."""
        if state:
            return session.code(text, state=state, timeout=self.scaled(10))
        return session.code(text, timeout=self.scaled(10))

    def test_D16_limits_and_priorities_of_others_are_no_programs(self) -> None:
        self.need(Feature.SHELL, Feature.CODE)
        with self.session() as session:
            self.need_python(session)
            self._need_apart(session)
            before = session.code(_CIRCUMSTANCES)
            expect(before.success, "D16", "limits and priorities", before)
            self.wait(0.2)
            python = "$(command -v python3 || command -v python)"
            attack = f"{_HAMPER}{python} -c {shlex.quote(_HAMPER_TOO)}"
            self._attack(session, attack, 20.0)
            self._speaks_for_itself(session)
            after = self._code(session, _CIRCUMSTANCES)
            same = (after.stdout, after.stderr) == (before.stdout, "")
            expect(same, "D16", f"the limits of before: {before.stdout}", after)

    def test_D16_what_is_left_reaches_into_no_later_execution(self) -> None:
        """Neither its output nor its memory: by a program, by code, in a kept interpreter."""
        self.need(Feature.SHELL, Feature.CODE)
        text = _REACH.replace("OWN", repr(_own_processes()))
        python = f"$(command -v python3 || command -v python) -c {shlex.quote(text)}"
        for by_code in (False, True):
            with self.session() as session:
                self.need_python(session)
                self._need_apart(session)
                if by_code:
                    left = self._code(session, text)
                    expect(left.exit_code != 99, "D16", "processes of the session's own", left)
                else:
                    self._attack(session, python, 20.0)
                self.until(functools.partial(session.files.exists, "began"), 5)
                self._speaks_for_itself(session)
                for state in ("", "kept") if self.claims(Feature.STATEFUL) else ("",):
                    word = unique("own")
                    said = self._code(
                        session, f"import time\nprint({word!r})\ntime.sleep(1)", state
                    )
                    expect(said.stdout == f"{word}\n", "D16", f"{word} alone of code", said)
                session.files.write("enough", b"")
                reached = session.shell("cat reached 2>/dev/null").stdout
                expect(not reached, "D16", "nothing of another open to what is left", reached)

    def _attack(self, session: Session, script: str, seconds: float) -> SandboxResult:
        """Run it under a deadline, which it must not outlast."""
        own = _own_processes()
        guard = f'[ "$({LOOK})" != "{own}" ] || exit 99'
        began = time.monotonic()
        limit = self.scaled(seconds)
        result = session.shell(f"{ATTACK}\n{guard}\n{script}", timeout=limit)
        self.within("D16", seconds + 3.0, began, "the end")
        expect(result.exit_code != 99, "D16", "processes of the session's own", "the machine's")
        return result

    def _speaks_for_itself(self, session: Session) -> None:
        """What the next executions report is their own, and exact."""
        for number in range(3):
            word = unique("own")
            line = f"printf %s {word}; sleep 0.3; printf %s {word} >&2; exit {number}"
            result = session.shell(line, timeout=self.scaled(20))
            seen = (result.stdout, result.stderr, result.exit_code, result.verdict)
            right = (word, word, number, Verdict.EXITED)
            expect(seen == right, self._clause, f"{right} of the next execution", result)

    def _need_apart(self, session: Session) -> None:
        """Go on where the session's processes are none of this machine's."""
        if session.provider.wall.isolation in (Isolation.KERNEL, Isolation.VM):
            return
        inside = session.shell(LOOK).stdout.strip()
        if not inside or inside == _own_processes():
            pytest.skip("the session's processes are this machine's, which this would harm")


def _left_behind(line: str) -> str:
    """A shell line in a session of its own (as ``setsid`` means it), that nobody waits for."""
    return f"(setsid sh -c {shlex.quote(line)} &)"


def _own_processes() -> str:
    """Of this process; empty if the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{os.readlink('/proc/self/ns/pid')}\n{file.read().strip()}"
    except OSError:
        return ""
