"""How the guest is made: a Debian tree with a kernel and the packages, as an ext4 image.

Made once and kept outside the repository, in a folder named by a hash of all that
decides what is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

HERE = Path(__file__).parent

#: What the host needs.
PACKAGES = ("mmdebstrap", "qemu-system-x86", "e2fsprogs")
#: Where the guest has the packages of its requirements.
SITE = "/opt/site"


@attrs.frozen(kw_only=True)
class Recipe:
    """All that decides what a guest holds."""

    name: str
    packages: tuple[str, ...]  #: Debian's, the kernel among them
    suite: str = ""  #: Debian's release; default the one that the host runs
    requirements: Path | None = None  #: packages for its Python, put into SITE
    size: str = "3G"  #: of its disk

    @property
    def release(self) -> str:
        return self.suite or _suite()

    def key(self) -> str:
        """A hash of it, and of the code that follows it."""
        parts = [self.release, *self.packages, self.size]
        parts += [(HERE / name).read_text() for name in ("recipe.py", "init")]
        parts += [self.requirements.read_text()] if self.requirements else []
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


#: Of the microVM walls' tests.
MICROVMS = Recipe(
    name="microvms",
    packages=(
        "linux-image-amd64",
        "python3",
        "busybox-static",
        "ca-certificates",
        "iproute2",
        "kmod",
    ),
    requirements=HERE / "requirements.txt",
)


class NoGuestError(Exception):
    """The guest cannot be made here; the message says why and what to do."""


def say(text: str) -> None:
    print(f"vm: {text}", file=sys.stderr, flush=True)


def ensure_host() -> None:
    """Install what the host lacks. Raises NoGuestError where that cannot be done."""
    if os.uname().machine != "x86_64" or not Path("/etc/debian_version").exists():
        raise NoGuestError("the guest is made on Debian on x86_64 alone; run it there")
    programs = ("mmdebstrap", "qemu-system-x86_64", "mke2fs")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if all(shutil.which(program, path=path) for program in programs):
        return
    if os.geteuid() != 0:
        raise NoGuestError(f"as root: apt-get install {' '.join(PACKAGES)}")
    say(f"installing {' '.join(PACKAGES)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    call("apt-get", "update", "-qq")
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES, env=env)


def call(*argv: str, env: dict[str, str] | None = None) -> None:
    """Run a program; what it printed is shown where it fails. Raises NoGuestError."""
    done = subprocess.run(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stdout[-8000:])
        raise NoGuestError(f"{argv[0]} ended with code {done.returncode}; see its words above")


def home() -> Path:
    """Where guests are kept: STOCKADE_VM, or beside the engines."""
    engines = os.environ.get("STOCKADE_ENGINES", "/var/lib/stockade-engines")
    return Path(os.environ.get("STOCKADE_VM") or Path(engines, "vm"))


def _suite() -> str:
    """The release that the host runs."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise NoGuestError("/etc/os-release names no release of Debian")


def ensure(recipe: Recipe) -> Path:
    """The guest's folder: ``vmlinuz``, ``initrd`` and ``image``, made if missing."""
    ensure_host()
    folder = home() / f"{recipe.name}-{recipe.key()}"
    with _alone():
        if not folder.exists():
            if os.geteuid() != 0:
                raise NoGuestError("making the guest needs root, which owns its files; use sudo")
            _make(recipe, folder)
        for other in home().glob(f"{recipe.name}-*"):
            if other != folder:  # of an older recipe
                shutil.rmtree(other)
    return folder


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    home().mkdir(parents=True, exist_ok=True)
    with open(home() / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(recipe: Recipe, folder: Path) -> None:
    say(f"making the guest in {folder}: some two minutes, once")
    with tempfile.TemporaryDirectory(dir=home(), prefix="making-") as name:
        work = Path(name)
        tree = work / "tree"
        _bootstrap(recipe, tree)
        if recipe.requirements:
            _install(recipe.requirements, tree)
        done = work / "done"
        done.mkdir()
        for kind in ("vmlinuz", "initrd.img"):
            (found,) = tree.glob(f"boot/{kind}-*")
            shutil.copyfile(found, done / kind.partition(".")[0])
        shutil.copyfile(HERE / "init", tree / "stockade-init")
        (tree / "stockade-init").chmod(0o755)
        mke2fs = shutil.which("mke2fs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "mke2fs"
        call(
            mke2fs,
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-E",
            "lazy_itable_init=1",
            "-d",
            str(tree),
            str(done / "image"),
            recipe.size,
        )
        done.rename(folder)


def _bootstrap(recipe: Recipe, tree: Path) -> None:
    call(
        "mmdebstrap",
        "--quiet",
        "--format=directory",
        "--variant=minbase",
        f"--include={','.join(recipe.packages)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        '--aptopt=Acquire::Languages "none"',
        recipe.release,
        str(tree),
    )


def _install(requirements: Path, tree: Path) -> None:
    """The packages for the guest's own Python, wherever this one is from."""
    version = os.readlink(tree / "usr/bin/python3").removeprefix("python")
    say(f"installing the packages for Python {version}")
    call(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--target",
        f"{tree}{SITE}",
        "--python-version",
        version,
        "--only-binary=:all:",
        "-r",
        str(requirements),
    )
