"""The suite is seen to fail on walls that are broken in just one way each.

The base is a plain subprocess; a check that it passes must fail on the mutant,
and name the mutant's clause.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from stockade.capabilities import Capabilities, Isolation
from stockade.config import SandboxConfig
from stockade.errors import WorkingDirectoryError
from stockade.lower import lower
from stockade.providers import WallProvider
from stockade.pump import LocalRunning
from stockade.results import Stream
from stockade.runtime import Runtime
from stockade.testing import ProviderConformance
from stockade.wall import (
    Availability,
    ExecRequest,
    Exit,
    OpenRequest,
    Output,
    Running,
    Sandbox,
    Wall,
)

#: The folders of all plain sandboxes of this run.
_ROOT = tempfile.mkdtemp(prefix="stockade-plain-")
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)

_ENTER = 'case $1 in */*) [ -e "$1" ] || exit 127;; esac; exec "$@"'


class PlainSandbox(Sandbox):
    def __init__(self, request: OpenRequest) -> None:
        self.folder = request.config.working_dir

    def path(self, inside: str) -> str:
        return inside

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        folder = self.path(request.working_dir)
        if not os.path.isdir(folder):
            raise WorkingDirectoryError(request.working_dir)
        return subprocess.Popen(
            ["sh", "-c", _ENTER, "sh", *request.argv],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **request.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self, request: ExecRequest, output: Output) -> Running:
        request = lower(request)
        return LocalRunning(self.spawn(request), request.stdin, output)

    def close(self) -> None:
        subprocess.run(["rm", "-rf", self.folder], check=True)


class PlainWall(Wall):
    isolation = Isolation.NONE
    capabilities = Capabilities(
        {
            "argv": "native",
            "shell": "emulated",
            "code": "emulated",
            "files": "emulated",
            "network": "native",
            "writable-root": "native",
            "working-dir": "native",
        }
    )
    sandbox: ClassVar[type[PlainSandbox]] = PlainSandbox

    def probe(self) -> Availability:
        return Availability()

    def open(self, request: OpenRequest) -> Sandbox:
        return self.sandbox(request)


RELAXED: dict[str, Any] = {
    "memory_mb": None,
    "cpu_limit": None,
    "max_processes": None,
    "disk_mb": None,
    "network_enabled": True,
    "read_only_fs": False,
}


def suite(sandbox: type[PlainSandbox], **claims: str) -> ProviderConformance:
    class MutantWall(PlainWall):
        capabilities = PlainWall.capabilities.with_(**claims)

    MutantWall.sandbox = sandbox

    class Checked(ProviderConformance):
        def make_provider(self, **config: Any) -> WallProvider:
            have = {**RELAXED, "working_dir": tempfile.mkdtemp(dir=_ROOT), **config}
            settings = SandboxConfig(**have)
            if "processes" not in claims:
                settings = settings.with_(max_processes=None)
            if "memory" not in claims:
                settings = settings.with_(memory_mb=None)
            return WallProvider("plain", MutantWall(), settings, Runtime(discover_plugins=False))

    return Checked()


# -- the mutants: each breaks one thing ----------------------------------------


class _Changed(Running):
    """Passes on to another running, with something changed."""

    def __init__(self, inner: Running) -> None:
        self.inner = inner

    def wait(self) -> Exit:
        return self.inner.wait()

    def kill(self) -> None:
        self.inner.kill()


class _ChangedOutput:
    def __init__(self, inner: Output) -> None:
        self.inner = inner

    def write(self, stream: Stream, data: bytes) -> None:
        self.inner.write(stream, data)

    def room(self, stream: Stream) -> int:
        return self.inner.room(stream)

    def full(self, stream: Stream) -> bool:
        return self.inner.full(stream)

    def drop(self, stream: Stream, count: int) -> None:
        self.inner.drop(stream, count)


class KillsNothing(PlainSandbox):
    """The client stops waiting, the program runs on."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        inner = super().start(request, output)
        ended = threading.Event()

        class Deaf(_Changed):
            def kill(self) -> None:
                ended.set()

            def wait(self) -> Exit:
                thread = threading.Thread(target=inner.wait, daemon=True)
                thread.start()
                while thread.is_alive() and not ended.wait(0.01):
                    pass
                return Exit(code=0)

        return Deaf(inner)


class CodesAreSignals(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Confused(_Changed):
            def wait(self) -> Exit:
                ended = super().wait()
                code = ended.code or 0
                return Exit(signal=code - 128) if code > 128 else ended

        return Confused(super().start(request, output))


class NoExitCode(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Lost(_Changed):
            def wait(self) -> Exit:
                return Exit(code=min(super().wait().code or 0, 1))

        return Lost(super().start(request, output))


class MergesStreams(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Merged(_ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(Stream.STDOUT, data)

        return super().start(request, Merged(output))


class DropsTheEnd(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Cut(_ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(stream, data[:-100] if len(data) > 100 else data)

        return super().start(request, Cut(output))


class CountsOnlyWhatIsKept(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Forgetful(_ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(stream, data[: self.inner.room(stream)])

            def drop(self, stream: Stream, count: int) -> None: ...

        return super().start(request, Forgetful(output))


class HoldsOutputBack(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        held: list[tuple[Stream, bytes]] = []

        class Held(_ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                held.append((stream, data))

        class Late(_Changed):
            def wait(self) -> Exit:
                ended = super().wait()
                for stream, data in held:
                    output.write(stream, data)
                return ended

        return Late(super().start(request, Held(output)))


class IgnoresTheFolder(PlainSandbox):
    def path(self, inside: str) -> str:
        return self.folder


class LosesTheEnvironment(PlainSandbox):
    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        import attrs

        return super().spawn(attrs.evolve(request, env={}))


class LosesInput(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        request = lower(request)
        return LocalRunning(self.spawn(request), request.stdin[: 1 << 16], output)


class WaitsForChildren(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        request = lower(request)
        process = self.spawn(request)

        class Waiting(Running):
            def wait(self) -> Exit:
                out, err = process.communicate(request.stdin)
                output.write(Stream.STDOUT, out)
                output.write(Stream.STDERR, err)
                code = process.returncode
                return Exit(code=code) if code >= 0 else Exit(signal=-code)

            def kill(self) -> None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)

        return Waiting()


class OneAtATime(PlainSandbox):
    _lock = threading.Lock()

    def start(self, request: ExecRequest, output: Output) -> Running:
        lock = self._lock

        class Queued(_Changed):
            def wait(self) -> Exit:
                with lock:
                    time.sleep(0.5)
                    return super().wait()

        return Queued(super().start(request, output))


class EverythingIs127(PlainSandbox):
    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        import attrs

        line = '"$@" || exit 127'
        return super().spawn(attrs.evolve(request, argv=("sh", "-c", line, "sh", *request.argv)))


class SaysYes(PlainSandbox):
    """Every command succeeds; it writes nowhere, since this wall holds nothing back."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        import attrs

        return super().spawn(attrs.evolve(request, argv=("true",)))


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """The plain wall has the host's own /tmp: remove what checks write there."""
    before = set(os.listdir("/tmp"))
    yield
    for name in {"mine", "big"} - before:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/tmp/{name}")


MUTANTS = [
    (KillsNothing, "test_D6_a_timeout_ends_the_whole_tree", "D6", {}),
    (KillsNothing, "test_D12_cancel_from_another_thread", "D12", {}),
    (CodesAreSignals, "test_D2_exit_codes_are_exact", "D2", {}),
    (NoExitCode, "test_D2_exit_codes_are_exact", "D2", {}),
    (EverythingIs127, "test_D2_missing_is_127_and_not_executable_126", "D2", {}),
    (MergesStreams, "test_D4_streams_are_apart_and_byte_exact", "D4", {}),
    (DropsTheEnd, "test_D4_streams_are_apart_and_byte_exact", "D4", {}),
    (CountsOnlyWhatIsKept, "test_D5_counts_and_marks", "D5", {}),
    (WaitsForChildren, "test_D7_a_child_left_behind_holds_nothing_up", "D7", {}),
    (LosesInput, "test_D8_input_of_fifty_mebibytes", "D8", {}),
    (IgnoresTheFolder, "test_D9_working_folder_and_environment", "D9", {}),
    (LosesTheEnvironment, "test_D9_working_folder_and_environment", "D9", {}),
    (HoldsOutputBack, "test_D13_pieces_come_as_they_are_printed", "D13", {}),
    (LosesInput, "test_F1_fifty_mebibytes", "F1", {}),
    (PlainSandbox, "test_F3_a_planted_link_leads_nowhere_on_the_host", "F3", {}),
    (SaysYes, "test_E2_read_only_but_for_two_folders", "E2", {"read_only_root": "native"}),
    (PlainSandbox, "test_E3_no_way_out", "E3", {"network_off": "native"}),
    (PlainSandbox, "test_E3_no_unix_socket_of_the_host", "E3", {"network_off": "native"}),
    (PlainSandbox, "test_E4_the_process_limit_holds", "E4", {"processes": "native"}),
    (PlainSandbox, "test_E6_the_cpu_limit_holds", "E6", {"cpu": "native"}),
    (PlainSandbox, "test_E1_no_privilege", "E1", {"process_hardening": "native"}),
    (PlainSandbox, "test_E7_nothing_of_the_host_shows", "E7", {}),
    (PlainSandbox, "test_E8_two_sessions_share_nothing", "E8", {}),
]

#: Checks that hold without any isolation: there the base wall must pass.
BASE_HOLDS = sorted(
    {check for sandbox, check, _, _ in MUTANTS if sandbox not in (PlainSandbox, SaysYes)}
    - {"test_D6_a_timeout_ends_the_whole_tree", "test_D12_cancel_from_another_thread"}
)


@pytest.mark.parametrize("check", BASE_HOLDS)
def test_the_base_passes(check: str) -> None:
    getattr(suite(PlainSandbox), check)()


@pytest.mark.parametrize(
    ("sandbox", "check", "clause", "claims"),
    MUTANTS,
    ids=[f"{sandbox.__name__}-{clause}" for sandbox, _, clause, _ in MUTANTS],
)
def test_the_mutant_is_caught_in_its_clause(
    sandbox: type[PlainSandbox], check: str, clause: str, claims: dict[str, str]
) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError, Exception)) as caught:
        getattr(suite(sandbox, **claims), check)()
    assert not isinstance(caught.value, pytest.skip.Exception), caught.value
    if isinstance(caught.value, pytest.fail.Exception):
        assert str(caught.value).startswith(clause), caught.value
