"""Walls and sandboxes that selecting and configuring must not let pass."""

from __future__ import annotations

import logging
import subprocess

import attrs

from conformance.mutants.base import (
    PlainSandbox,
    PlainWall,
)
from stockade.errors import WorkingDirectoryError
from stockade.wall import (
    Availability,
    Check,
    ExecRequest,
    OpenRequest,
    Output,
    Running,
    Sandbox,
)


class RaisingProbe(PlainWall):
    def probe(self) -> Availability:
        raise RuntimeError("no engine")


class NonsenseProbe(PlainWall):
    def probe(self) -> Availability:
        return True  # type: ignore[return-value]


class HangingProbe(PlainWall):
    def probe(self) -> Availability:
        import time

        time.sleep(5)
        return Availability()


class NoRemedy(PlainWall):
    def probe(self) -> Availability:
        return Availability((Check("engine", False, "not there"),))


class ChangesTheConfiguration(PlainWall):
    def open(self, request: OpenRequest) -> Sandbox:
        object.__setattr__(request.config, "output_limit_bytes", 7)
        return super().open(request)


class TellsTheEnvironment(PlainSandbox):
    """Environment values as arguments, which every user of the host can read."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        words = [f"{name}={value}" for name, value in request.env.items()]
        argv = (
            "sh",
            "-c",
            'n=$1; shift "$((n + 1))"; "$@"; exit $?',
            "sh",
            str(len(words)),
            *words,
            *request.argv,
        )
        return super().spawn(attrs.evolve(request, argv=argv))


class LogsTheEnvironment(PlainSandbox):
    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        logging.getLogger("mutant").info("starting with %s", dict(request.env))
        logging.getLogger("mutant").setLevel(logging.INFO)
        return super().spawn(request)


class RaisesItsOwn(PlainSandbox):
    """Its errors are of a class that no other process can find."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        class NoFolder(WorkingDirectoryError): ...

        try:
            return super().start(request, output)
        except WorkingDirectoryError as error:
            raise NoFolder(error.path) from error


class StartsElsewhere(PlainSandbox):
    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        return super().spawn(attrs.evolve(request, working_dir="/tmp"))


class KeepsLimitsToItself(PlainWall):
    """Something else fixes its memory, and nobody learns at what."""

    fixed_elsewhere = ("memory_mb",)
