"""Versions of what stands between the code and the host, and known ways out of old ones.

Named, not refused: a distribution mends a program without giving it a new number.
"""

from __future__ import annotations

import os
import re
import subprocess

import attrs

from stockade.wall import Check
from stockade_docker.engine import EngineInfo

__all__ = ["engine_check", "runsc_check", "runtime_check"]

_ASK_SECONDS = 5.0


@attrs.frozen
class _Escape:
    """A way out, and the first version of each line of releases that closed it."""

    name: str
    fixed: tuple[str, ...]

    def open_in(self, version: tuple[int, ...]) -> bool:
        fixes = sorted(_numbers(text) for text in self.fixed)
        same_line = [fix for fix in fixes if fix[:2] == version[:2]]
        return version < (same_line or fixes[-1:])[0]


_OF_RUNC = (
    _Escape("CVE-2019-5736", ("1.0.0",)),
    _Escape("CVE-2024-21626", ("1.1.12",)),
    _Escape("CVE-2025-31133, CVE-2025-52565, CVE-2025-52881", ("1.2.8", "1.3.3", "1.4.0")),
)
_OF_DOCKER = (_Escape("CVE-2018-15664, CVE-2019-14271", ("18.09.9", "19.03.1")),)
_OF_DESKTOP = (_Escape("CVE-2025-9074", ("4.44.3",)),)


def _numbers(text: str) -> tuple[int, ...]:
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _check(what: str, found: str, escapes: tuple[_Escape, ...], more: str = "") -> Check:
    numbers = _numbers(found)
    known = [escape for escape in escapes if numbers and escape.open_in(numbers)]
    if not known:
        return Check(what, True, f"{found}{more}")
    names = "; ".join(f"{one.name} (closed in {', '.join(one.fixed)})" for one in known)
    return Check(
        what,
        True,
        f"{found}{more}; known ways out of this version: {names}",
        f"update it to {known[-1].fixed[-1]} or newer, or see that its distribution's build has "
        "these mended",
    )


def engine_check(info: EngineInfo) -> Check:
    """The engine's version, with its machine's system and kernel."""
    more = f" on {info.operating_system}, kernel {info.kernel}"
    if info.platform.startswith("Docker Desktop"):
        return _check("engine", info.platform, _OF_DESKTOP, more)
    if info.is_podman:
        return Check("engine", True, f"podman {info.version}{more}")
    return _check("engine", f"docker {info.version}", _OF_DOCKER, more)


def runtime_check(info: EngineInfo) -> list[Check]:
    """The runtime that starts containers, where the engine reports its version."""
    for name, version in info.components.items():
        program = next((word for word in ("runc", "crun") if word in name.lower()), None)
        if program is not None:
            found = version.partition("\n")[0].removeprefix(f"{program} version ")
            escapes = _OF_RUNC if program == "runc" else ()
            return [_check(program, f"{program} {found}", escapes)]
    return []


def runsc_check(info: EngineInfo, name: str, *, local: bool) -> Check:
    """gVisor's version, which engines do not report: asked of the program itself where the
    engine shares this machine's files."""
    path = info.runtime_paths.get(name, "")
    if not local or not os.path.isabs(path) or not os.path.basename(path).startswith("runsc"):
        return Check("gVisor", True, "the engine does not report its version")
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Check("gVisor", True, f"{path} does not report its version: {error}")
    return Check("gVisor", True, done.stdout.partition("\n")[0] or f"{path} reports no version")
