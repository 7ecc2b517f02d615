"""The unmodified JavaScript SDKs of E2B, which know nothing of stockade, drive the server.

The walks are in javascript/*.mjs. `tox -e server` installs the packages by npm, once, into a folder
below ~/.cache, with a node of its own where this machine's is too old. Without that folder,
and where STOCKADE_JS is not `install`, these tests skip.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import attrs
import pytest

from plugins.server.conftest import missing
from plugins.server.serving import Served

pytest.importorskip("starlette", reason="stockade-server is not installed (tox -e server)")
pytest.importorskip("uvicorn", reason="stockade-server is not installed (tox -e server)")

_HERE = Path(__file__).parent / "javascript"
_EXPORTED = re.compile(r"^export (?:const|async function) (\w+)", re.MULTILINE)
WALKS = [
    (file.name, name)
    for file in sorted(_HERE.glob("*.mjs"))
    for name in _EXPORTED.findall(file.read_text())
]
_SECONDS = 90


@attrs.frozen
class Packages:
    """A folder that has the SDKs in its node_modules, and a node that runs them."""

    folder: Path
    node: str


@pytest.fixture(scope="session")
def packages() -> Packages:
    more, node = _node()
    wanted = (_HERE / "package.json").read_bytes()
    name = hashlib.sha256(wanted + " ".join(more).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / f"stockade-tests/javascript-{name}"
    if not folder.is_dir():
        if os.environ.get("STOCKADE_JS") != "install":
            missing(f"E2B's SDKs are not in {folder} (STOCKADE_JS=install, tox -e server)")
        if shutil.which("npm") is None:
            missing("npm is not installed (apt install npm)")
        _install(wanted, more, folder)
    return Packages(folder, str(folder / node))


def _node() -> tuple[list[str], str]:
    """This machine's node, or the package that brings one, and where it is then."""
    node = shutil.which("node")
    if node is not None:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
        version = tuple(map(int, said.stdout.strip().lstrip("v").split(".")))
        if (20, 18, 1) <= version < (21,) or version >= (22,):  # what the SDKs ask for
            return [], node
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if machine is None:
        missing("there is no node of 20.18.1 or more, nor a package of one for this machine")
    return [f"node-linux-{machine}@22"], f"node_modules/node-linux-{machine}/bin/node"


def _install(wanted: bytes, more: list[str], folder: Path) -> None:
    """Whole or not at all, whoever else does it at the time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        Path(made, "package.json").write_bytes(wanted)
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        command += ["--loglevel=error", "--fetch-retries=1"]
        subprocess.run([*command, *more], cwd=made, check=True, timeout=280)
        shutil.copytree(made, f"{made}.whole", symlinks=True)
    try:
        Path(f"{made}.whole").rename(folder)
    except OSError:  # another was quicker
        shutil.rmtree(f"{made}.whole")


@pytest.mark.timeout(300)  # the first one installs the packages
@pytest.mark.parametrize(("file", "name"), WALKS, ids=[f"{a[:-4]}-{b}" for a, b in WALKS])
def test_the_javascript_sdk(served: Served, packages: Packages, file: str, name: str) -> None:
    done = subprocess.run(
        [packages.node, str(_HERE / "run.mjs"), str(_HERE / file), name],
        env={**os.environ, "STOCKADE_JS_PACKAGES": str(packages.folder)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_all_walks_are_found() -> None:
    """A walk that the pattern misses would never run."""
    assert len(WALKS) == 17
    assert {file for file, _ in WALKS} == {
        "code.mjs",
        "commands.mjs",
        "files.mjs",
        "sandboxes.mjs",
    }
