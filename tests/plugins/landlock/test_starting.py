"""Starts that fail: what is repeated, what is reported at once, and that nothing is left."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import stockade
from conftest import until
from plugins.landlock.processes import gone
from stockade import SandboxStartError
from stockade.toolkit.local import forked
from stockade.toolkit.local.bare import keeper_command
from stockade_landlock.wall import LandlockWall


def descriptors() -> dict[str, str]:
    """What this process has open; what nobody refers to any more is closed first."""
    gc.collect()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, by another thread
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """This process may open no further file: what the kernel says then is its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    spare: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in spare:
            os.close(descriptor)


def open_and_close(landlock: str) -> None:
    with stockade.open(landlock) as session:
        assert session.run(["echo", "hi"]).stdout == "hi\n"


def test_a_process_that_may_open_no_more_files(landlock: str) -> None:
    open_and_close(landlock)
    before = descriptors()
    with no_more_files(), pytest.raises(SandboxStartError, match="Too many open files") as caught:
        stockade.open(landlock)
    assert caught.value.retryable and caught.value.nothing_began
    open_and_close(landlock)
    # What earlier tests left to other threads opens and closes files in between.
    assert until(lambda: len(descriptors()) <= len(before)), (before, descriptors())


def test_a_shortage_that_passes_is_not_even_seen(landlock: str) -> None:
    open_and_close(landlock)
    runtime = stockade.default_runtime()
    before = runtime.settings
    runtime.settings = before.with_(start_retries=10)
    short = contextlib.ExitStack()
    short.enter_context(no_more_files())
    timer = threading.Timer(0.3, short.close)
    timer.start()
    try:
        open_and_close(landlock)
    finally:
        timer.join()
        runtime.settings = before


def _failing(monkeypatch: pytest.MonkeyPatch, code: str, times: int) -> list[int]:
    """The first servers of keepers do this instead; the ids of all that are started."""
    forked.close_servers()
    usual, started = subprocess.Popen, list[int]()

    def popen(argv: list[str], **options: Any) -> Any:
        if "pass_fds" not in options:  # a probe's
            return usual(argv, **options)
        if len(started) < times:
            (control,) = options["pass_fds"]
            toolkit = keeper_command("stockade.toolkit.local.messages", control)[-1]
            boot = toolkit.partition("from stockade.toolkit")[0]
            argv = [*argv[:-1], boot + code.format(control=control)]
        made = usual(argv, **options)
        started.append(made.pid)
        return made

    monkeypatch.setattr("stockade.toolkit.local.forked.subprocess.Popen", popen)
    return started


_SAYS = (
    "import socket; from stockade.toolkit.local import messages; "
    "ours = socket.socket(fileno={{control}}); messages.receive(ours); "
    "messages.send(ours, {{{{'ok': False, 'error': 'a word', 'passing': {passing}}}}})"
)


@pytest.mark.parametrize(
    "code", ["import os; os.kill(os.getpid(), 9)", _SAYS.format(passing=True)], ids=["dies", "says"]
)
def test_a_keeper_that_fails_is_started_again(
    code: str, landlock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_close(landlock)
    with monkeypatch.context() as patch:
        started = _failing(patch, code, 2)
        open_and_close(landlock)
    assert len(started) == 3
    with monkeypatch.context() as patch:
        started = _failing(patch, code, 99)
        with pytest.raises(SandboxStartError, match="keeper did not start") as caught:
            stockade.open(landlock)
    assert len(started) == 3 and caught.value.nothing_began
    assert not any(os.path.exists(f"/proc/{pid}") for pid in started)


def test_what_no_repetition_mends_is_reported_at_once(
    landlock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_close(landlock)
    started = _failing(monkeypatch, _SAYS.format(passing=False), 99)
    with pytest.raises(SandboxStartError, match="a word") as caught:
        stockade.open(landlock)
    assert len(started) == 1 and not caught.value.retryable


def test_a_look_that_could_not_be_taken_is_no_answer(landlock: str) -> None:
    """A machine that is short of something says nothing of namespaces."""
    with no_more_files():
        seen = LandlockWall().probe()
        assert not seen and seen.transient
    assert LandlockWall().probe()
    assert gone("stockade_landlock.attempt")


_CLOSED = """
import stockade
from stockade import ProviderUnavailableError
from stockade.toolkit.local import calls, seccomp
calls.give_up_privileges()
calls.filter_calls(seccomp.program())
try:
    stockade.open("landlock")
except ProviderUnavailableError as error:
    print(error)
"""


def test_E7_without_namespaces_there_is_no_wall(landlock: str) -> None:
    """Where a filter forbids them, as in a container, the reason and a remedy are reported."""
    said = subprocess.run([sys.executable, "-c", _CLOSED], capture_output=True, text=True).stdout
    switch = "root lacks the right CAP_SYS_ADMIN" if os.geteuid() == 0 else "(seccomp)"
    assert switch in said and "([Errno 1] Operation not permitted: 'clone')" in said, said
    # What Landlock alone would break is listed (test_versions.py holds that to the kernel).
    assert "alone, Landlock version" in said and "sockets that have a path (E3)" in said


def test_A8_a_target_that_is_no_root_is_reported(landlock: str, tmp_path: Any) -> None:
    for target, reason in (
        ("usr", "not an absolute path"),
        (str(tmp_path / "none"), "no folder"),
        ("/", "the host's own root"),
    ):
        seen = stockade.provider(f"{landlock}:{target}").availability()
        assert not seen and reason in seen.reason, seen
