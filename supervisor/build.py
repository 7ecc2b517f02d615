"""Build the supervisor from its source, the same bytes on every machine.

    python build.py [MACHINE...]       build, for all architectures that are shipped by default
    python build.py --check            build elsewhere and compare with what is shipped

It needs the compiler that is pinned here: ``pip install ziglang==0.17.1``, which brings a C
compiler and a C library for every target and needs neither of the system.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ZIG = "0.17.1"
MACHINES = ("aarch64", "x86_64")
HERE = Path(__file__).resolve().parent
DATA = HERE / "python" / "stockade_supervisor" / "data"
HASHES = DATA.parent / "hashes.py"
FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Os",
    "-static",
    "-s",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fstack-protector-strong",
    "-fno-ident",
)


def compile_for(machine: str, target: Path) -> None:
    """One static program; relative names, so that no folder shows in it."""
    sources = sorted(path.name for path in (HERE / "src").glob("*.c"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            f"{machine}-linux-musl",
            *FLAGS,
            "-o",
            str(target),
            *sources,
        ],
        cwd=HERE / "src",
        check=True,
    )
    target.chmod(0o755)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_compiler() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "ziglang", "version"], capture_output=True, text=True, check=False
    )
    if found.stdout.strip() != ZIG:
        raise SystemExit(f"ziglang {ZIG} is needed: pip install ziglang=={ZIG}")


def build(machines: list[str]) -> None:
    DATA.mkdir(exist_ok=True)
    for machine in machines:
        target = DATA / f"supervisor-{machine}"
        compile_for(machine, target)
        print(f"{target.name}: {target.stat().st_size} bytes, {digest(target)}")
    known = {path.name.partition("-")[2]: digest(path) for path in DATA.glob("supervisor-*")}
    lines = [f'    "{machine}": "{known[machine]}",' for machine in sorted(known)]
    HASHES.write_text(
        '"""The hashes of what is shipped; written by build.py."""\n\n'
        "from __future__ import annotations\n\n"
        "HASHES: dict[str, str] = {\n" + "\n".join(lines) + "\n}\n"
    )


def check() -> int:
    """Whether what is shipped is what the source gives, byte for byte."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for machine in MACHINES:
            made = Path(folder) / machine
            compile_for(machine, made)
            same = made.read_bytes() == (DATA / f"supervisor-{machine}").read_bytes()
            print(f"{machine}: {'the same bytes' if same else 'NOT what the source gives'}")
            wrong += not same
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("machines", nargs="*", default=list(MACHINES))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    require_compiler()
    if arguments.check:
        return check()
    build(arguments.machines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
