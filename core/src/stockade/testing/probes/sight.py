"""Who the code is, and what it sees and may write: E1, E2, E7, E8."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stockade.capabilities import Feature, Isolation
from stockade.testing.probes.base import Bench, Measured, Outcome, Probe, held_if

__all__ = ["PROBES"]


def _status(bench: Bench) -> dict[str, str]:
    """The fields of ``/proc/self/status`` of a program inside; empty if it is hidden."""
    text = bench.sh("cat /proc/self/status 2>/dev/null; :").stdout
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _no_status(field: str) -> Measured:
    return Measured(Outcome.UNKNOWN, f"/proc/self/status inside does not show {field}")


def uid(bench: Bench) -> Measured:
    """The user is not root (E1)."""
    fields = _status(bench).get("Uid", "").split()
    if not fields:
        fields = bench.sh("id -u").stdout.split()
    if not fields:
        return Measured(Outcome.UNKNOWN, "neither /proc/self/status nor id inside")
    return held_if("0" not in fields, f"uid {' '.join(dict.fromkeys(fields))}")


def capability_sets(bench: Bench) -> Measured:
    """Every set is empty, the bounding set too (E1)."""
    sets = {name: value for name, value in _status(bench).items() if name.startswith("Cap")}
    if not sets:
        return _no_status("capability sets")
    held = {name: value.lstrip("0") for name, value in sets.items() if value.strip("0")}
    if not held:
        return Measured(Outcome.HELD, "all empty")
    return Measured(Outcome.BROKEN, ", ".join(f"{name} {bits}" for name, bits in held.items()))


def no_new_privs(bench: Bench) -> Measured:
    value = _status(bench).get("NoNewPrivs")
    if value is None:
        return _no_status("NoNewPrivs")
    return held_if(value == "1", f"NoNewPrivs {value}")


def seccomp(bench: Bench) -> Measured:
    value = _status(bench).get("Seccomp")
    if value is None:
        return _no_status("Seccomp")
    if value == "0" and bench.provider.wall.isolation is Isolation.KERNEL:
        detail = "the kernel inside is filtered from outside, which it does not show"
        return Measured(Outcome.UNKNOWN, detail)
    words = {"0": "no filter", "1": "strict", "2": "a filter"}
    return held_if(value in ("1", "2"), f"Seccomp {value}: {words.get(value, 'unknown')}")


_WRITE = """
for d in / /bin /usr /usr/lib /etc /var /home /root /opt /srv /run /dev; do
  f=$d/$1
  if (: > "$f") 2>/dev/null; then echo "$d"; rm -f "$f"; fi
done; :
"""


def writes(bench: Bench) -> Measured:
    """Nothing can be written but in the working folder and the temporary ones (E2)."""
    if not bench.config.read_only_fs:
        return Measured(Outcome.UNKNOWN, "the session was asked to be writable")
    name = f".stockade-{secrets.token_hex(8)}"
    inside = bench.sh(f": > {name} && : > /tmp/{name}; c=$?; rm -f {name} /tmp/{name}; exit $c")
    if not inside.success:
        return Measured(Outcome.BROKEN, "the working folder or /tmp cannot be written")
    found = bench.sh(f"set -- {name}\n{_WRITE}").stdout.split()
    return held_if(not found, f"written to {', '.join(found)}" if found else "12 folders tried")


def shadow(bench: Bench) -> Measured:
    """The host's /etc/shadow is out of sight; an image's own may not be (E7)."""
    result = bench.sh("cat /etc/shadow 2>/dev/null; :")
    if not result.stdout_bytes:
        return Measured(Outcome.HELD, "cannot be read, or is not there")
    try:
        host = Path("/etc/shadow").read_bytes()
    except OSError:
        return Measured(Outcome.UNKNOWN, "one is readable; this user cannot see whose")
    return held_if(host != result.stdout_bytes, "one is readable; compared with the host's")


@contextlib.contextmanager
def host_folder() -> Iterator[Path]:
    """A folder of the host that anybody on the host may enter; short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="stockade-measure-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def host_files(bench: Bench) -> Measured:
    """A file in the host's temporary folder, readable to all, cannot be read (E7)."""
    token = secrets.token_hex(16)
    with host_folder() as folder:
        file = folder / "marker"
        file.write_text(token)
        file.chmod(0o644)
        read = bench.sh('cat "$HOST_FILE" 2>/dev/null; :', env={"HOST_FILE": str(file)}).stdout
    return held_if(token not in read, f"a file in {folder.parent} was tried")


def environment(bench: Bench) -> Measured:
    """Variables of the host's process do not show; those asked for do (E7, B4)."""
    name = f"STOCKADE_MEASURE_{secrets.token_hex(8).upper()}"
    os.environ[name] = "leaked"
    try:
        with bench.another() as session:
            text = session.shell("env || set", env={"STOCKADE_ASKED": "yes"}, timeout=30).stdout
    finally:
        del os.environ[name]
    if "STOCKADE_ASKED" not in text:
        return Measured(Outcome.BROKEN, "a variable that was asked for is missing")
    return held_if(name not in text, f"{len(text.splitlines())} variables inside")


def host_processes(bench: Bench) -> Measured:
    """A process of the host does not show in /proc (E7)."""
    token = secrets.token_hex(12)
    sleep = shutil.which("sleep")
    if sleep is None:
        return Measured(Outcome.UNKNOWN, "the host has no sleep to look for")
    # A sleep of seconds.digits; the brackets keep grep from finding itself.
    digits = str(int(token, 16))
    pattern = f"60[.]{digits}"
    host = subprocess.Popen([sleep, f"60.{digits}"])
    try:
        found = bench.sh(
            f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '{pattern}'"
        )
        listed = bench.sh("ls -d /proc/[0-9]* 2>/dev/null | wc -l").stdout.strip()
    finally:
        host.kill()
        host.wait()
    return held_if(found.stdout.strip() in ("", "0"), f"{listed or '0'} processes in /proc")


def other_sessions(bench: Bench) -> Measured:
    """What one session writes, another does not see (E8)."""
    token = f"stockade-{secrets.token_hex(8)}"
    bench.sh(f": > {token}; : > /tmp/{token}")
    try:
        with bench.another() as session:
            seen = bench.sh(f"ls -d {token} /tmp/{token} 2>/dev/null; :", session=session).stdout
    finally:
        bench.sh(f"rm -f {token} /tmp/{token}")
    return held_if(not seen, f"seen: {' '.join(seen.split())}" if seen else "files in both folders")


_HARDENING = Feature.PROCESS_HARDENING

PROBES = (
    Probe(name="unprivileged user", clause="E1", feature=_HARDENING, run=uid, unclaimed=True),
    Probe(
        name="capability sets",
        clause="E1",
        feature=_HARDENING,
        run=capability_sets,
        unclaimed=True,
    ),
    Probe(name="no_new_privs", clause="E1", feature=_HARDENING, run=no_new_privs, unclaimed=True),
    Probe(name="seccomp", clause="E1", feature=_HARDENING, run=seccomp, unclaimed=True),
    Probe(name="writes elsewhere", clause="E2", feature=Feature.READ_ONLY_ROOT, run=writes),
    Probe(name="/etc/shadow", clause="E7", feature=None, run=shadow),
    Probe(name="host files", clause="E7", feature=None, run=host_files),
    Probe(name="host environment", clause="E7", feature=None, run=environment),
    Probe(name="host processes", clause="E7", feature=None, run=host_processes),
    Probe(name="other sessions", clause="E8", feature=None, run=other_sessions),
)
