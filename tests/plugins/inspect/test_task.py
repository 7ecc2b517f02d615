"""Whole tasks, run by inspect: its tools, its injected ones, its log, on every wall."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.util import SandboxEnvironmentSpec

import stockade
from conftest import need
from plugins.inspect.tasks import EVERY_TOOL, run
from stockade_inspect import StockadeConfig

pytestmark = [
    pytest.mark.timeout(300),
    # inspect's own: a parameter that its retries name, streams that it does not close.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COMPOSE = """
services:
  default:
    image: stockade-test/python
    command: tail -f /dev/null
    init: true
    network_mode: none
    mem_limit: 512m
"""
#: This machine's runsc is of 2022 and refuses how coreutils ask for a file's state (statx, with
#: a flag that is younger); busybox asks as older programs do.
DOCKERFILE = """
FROM stockade-test/python
COPY --from=stockade-test/busybox /bin/busybox /usr/local/bin/busybox
RUN ln -sf /usr/local/bin/busybox /usr/bin/stat
"""


def configuration(kind: str, folder: Path) -> Any:
    """Each wall by another way to name it."""
    if kind == "landlock":
        return SandboxEnvironmentSpec("stockade", StockadeConfig(provider="landlock"))
    if kind == "bubblewrap":
        (folder / "stockade.toml").write_text('provider = "bubblewrap?memory_mb=1024"\n')
        return ("stockade", str(folder / "stockade.toml"))
    if kind == "docker":
        (folder / "compose.yaml").write_text(COMPOSE)
        return ("stockade", str(folder / "compose.yaml"))
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return ("stockade-gvisor", str(folder / "Dockerfile"))


@pytest.mark.parametrize("kind", ["landlock", "bubblewrap", "docker", "gvisor"])
def test_a_task_with_tools(kind: str, tmp_path: Path) -> None:
    need(kind)
    log, gave = run(tmp_path, configuration(kind, tmp_path), EVERY_TOOL)
    assert log.status == "success", log.error
    assert gave[:2] == [("bash", "from the dataset\nby setup\n"), ("python", "42\n")]
    assert gave[2][0] == "text_editor" and "created successfully" in gave[2][1]
    assert gave[3] == ("bash", "seen = 1\n")
    assert "session 42" in gave[4][1]
    assert gave[5] == ("bash", "timeout")
    assert log.results and log.results.scores[0].metrics["accuracy"].value == 1
    assert not stockade.default_runtime().registry.records(), "all of it ended"


def test_what_a_wall_cannot_hold_is_said_before_any_sample(tmp_path: Path) -> None:
    need("landlock")
    need("docker")
    asked = StockadeConfig(provider="landlock?read_only_fs=false")
    with pytest.raises(PrerequisiteError, match="writable-root.*Here these can: docker"):
        run(tmp_path, SandboxEnvironmentSpec("stockade", asked), EVERY_TOOL)


def test_a_compose_file_where_no_image_runs(tmp_path: Path) -> None:
    need("docker")
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    can = "landlock runs no image.*Here these can: docker:stockade-test/python"
    with pytest.raises(PrerequisiteError, match=can):
        run(tmp_path, ("stockade-landlock", str(tmp_path / "compose.yaml")), [])


def test_inspect_s_own_command(tmp_path: Path) -> None:
    """By the entry point alone, with the file that lies beside the task."""
    need("landlock")
    (tmp_path / "stockade.toml").write_text('provider = "landlock"\n')
    (tmp_path / "task.py").write_text(
        textwrap.dedent(
            """
            from inspect_ai import Task, task
            from inspect_ai.dataset import Sample
            from inspect_ai.scorer import includes
            from inspect_ai.solver import solver
            from inspect_ai.util import sandbox

            @solver
            def look():
                async def solve(state, generate):
                    done = await sandbox().exec(["sh", "-c", "pwd; id -un"])
                    state.output.completion = done.stdout
                    return state
                return solve

            @task
            def looking():
                return Task(dataset=[Sample(input="x", target="/workspace")], solver=look(),
                            scorer=includes())
            """
        )
    )
    words = ["eval", "task.py", "--sandbox", "stockade", "--model", "mockllm/model"]
    done = subprocess.run(
        [sys.executable, "-m", "inspect_ai", *words, "--display", "plain"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy" in done.stdout and "1.000" in done.stdout, done.stdout
