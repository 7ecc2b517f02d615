"""Sandboxes whose output is not as it should be."""

from __future__ import annotations

from conformance.mutants.base import Changed, ChangedOutput, PlainSandbox
from stockade.results import Stream
from stockade.wall import ExecRequest, Exit, Output, Running


class CountsOnlyWhatIsKept(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        class Forgetful(ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                self.inner.write(stream, data[: self.inner.room(stream)])

            def drop(self, stream: Stream, count: int) -> None: ...

        return super().start(request, Forgetful(output))


class HoldsAllInMemory(PlainSandbox):
    """Everything printed is kept by the wall, whatever the limit."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        hoard: list[bytes] = []

        class Hoarding(ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                if len(hoard) < 1000:
                    hoard.append(b"x" * (1 << 20))
                self.inner.write(stream, data)

            def full(self, stream: Stream) -> bool:
                return False

            def room(self, stream: Stream) -> int:
                return 1 << 20

        class Held(Changed):
            def __init__(self, inner: Running) -> None:
                super().__init__(inner)
                self.hoard = hoard

        return Held(super().start(request, Hoarding(output)))


class HoldsOutputBack(PlainSandbox):
    def start(self, request: ExecRequest, output: Output) -> Running:
        held: list[tuple[Stream, bytes]] = []

        class Held(ChangedOutput):
            def write(self, stream: Stream, data: bytes) -> None:
                held.append((stream, data))

        class Late(Changed):
            def wait(self) -> Exit:
                ended = super().wait()
                for stream, data in held:
                    output.write(stream, data)
                return ended

        return Late(super().start(request, Held(output)))
