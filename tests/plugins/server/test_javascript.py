"""The unmodified JavaScript SDKs of E2B, which know nothing of stockade, drive the server.

The walks are in javascript/*.mjs. `tox -e server` installs the packages by npm, once, into a folder
below ~/.cache; without that folder, and where STOCKADE_JS is not `install`, these tests skip.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def packages() -> Iterator[Path]:
    """A folder that has the SDKs in its node_modules."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt install nodejs npm)")
    wanted = (_HERE / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / f"stockade-tests/javascript-{hashlib.sha256(wanted).hexdigest()[:16]}"
    if not folder.is_dir():
        if os.environ.get("STOCKADE_JS") != "install":
            pytest.skip(f"E2B's SDKs are not in {folder} (STOCKADE_JS=install, tox -e server)")
        _install(wanted, folder)
    yield folder


def _install(wanted: bytes, folder: Path) -> None:
    """Whole or not at all, whoever else does it at the time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        Path(made, "package.json").write_bytes(wanted)
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=made, check=True, timeout=300)
        shutil.copytree(made, f"{made}.whole", symlinks=True)
    try:
        Path(f"{made}.whole").rename(folder)
    except OSError:  # another was quicker
        shutil.rmtree(f"{made}.whole")


@pytest.mark.timeout(300)  # the first one installs the packages
@pytest.mark.parametrize(("file", "name"), WALKS, ids=[f"{a[:-4]}-{b}" for a, b in WALKS])
def test_the_javascript_sdk(served: Served, packages: Path, file: str, name: str) -> None:
    done = subprocess.run(
        ["node", str(_HERE / "run.mjs"), str(_HERE / file), name],
        env={**os.environ, "STOCKADE_JS_PACKAGES": str(packages)},
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
