"""A task as Harbor's users write them, and its run by Harbor's own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["run", "task"]

TOML = """
version = "1.0"

[verifier]
timeout_sec = 120.0

[agent]
timeout_sec = 120.0

[environment]
build_timeout_sec = 300.0
network_mode = "no-network"
memory_mb = 512
cpus = 1
"""
DOCKERFILE = "FROM stockade-test/work\nWORKDIR /app\nRUN echo of-the-image > given.txt\n"
SOLVE = "#!/bin/bash\ncat given.txt > answer.txt && echo 42 >> answer.txt\n"
TEST = """#!/bin/bash
reward=0
grep -q of-the-image /app/answer.txt && grep -q 42 /app/answer.txt && reward=1
echo $reward > /logs/verifier/reward.txt
ln -s /etc/shadow /logs/verifier/planted
id -u > /logs/verifier/who.txt
"""


def task(folder: Path, toml: str = TOML, **files: str) -> Path:
    """The folder of one; ``files`` are others, by their paths with ``__`` for ``/`` and ``_sh``."""
    made = folder / "task"
    for name, text in {
        "task.toml": toml,
        "instruction.md": "Write 42 to answer.txt.",
        "environment/Dockerfile": DOCKERFILE,
        "solution/solve.sh": SOLVE,
        "tests/test.sh": TEST,
        **{name.replace("__", "/").replace("_sh", ".sh"): text for name, text in files.items()},
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return made


def run(folder: Path, place: Path, agent: str, *more: str) -> tuple[dict[str, Any], Path]:
    """The result of its one trial, and that trial's folder."""
    program = Path(sys.executable).parent / "harbor"
    words = ["run", "-p", str(place), "-a", agent, "--env", "stockade_harbor:StockadeEnvironment"]
    # Else it asks another machine for the prices of models.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HARBOR_TELEMETRY": "off"}
    done = subprocess.run(
        [str(program), *words, "--jobs-dir", str(folder / "jobs"), "--yes", *more],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = (folder / "jobs").glob("*/*/result.json")
    result: dict[str, Any] = json.loads(found.read_text())
    return result, found.parent
