"""Whole trials by Harbor's own command: image, agent, verifier, reward."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import need
from plugins.harbor.tasks import TOML, run, task

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_the_oracle_solves_it(wall: str, tmp_path: Path) -> None:
    need(wall)
    result, trial = run(tmp_path, task(tmp_path), "oracle", "--ek", f"provider={wall}")
    assert result["exception_info"] is None, result
    assert result["verifier_result"]["rewards"] == {"reward": 1.0}
    assert (trial / "verifier" / "who.txt").read_text() != "0\n", "nobody in it is root"
    planted = trial / "verifier" / "planted"
    assert not os.path.lexists(planted), "a link that leads out of the sandbox"


def test_who_does_nothing_gets_nothing(tmp_path: Path) -> None:
    need("docker")
    result, _ = run(tmp_path, task(tmp_path), "nop", "--ek", "provider=docker")
    assert result["verifier_result"]["rewards"] == {"reward": 0.0}


def test_an_image_instead_of_a_dockerfile(tmp_path: Path) -> None:
    need("docker")
    image = '[environment]\ndocker_image = "stockade-test/work"\nworkdir = "/app"'
    toml = TOML.replace("[environment]", image)
    place = task(tmp_path, toml)
    (place / "environment" / "Dockerfile").unlink()
    (place / "environment" / "given.txt").write_text("of-the-image\n")
    result, _ = run(tmp_path, place, "oracle", "--ek", "provider=docker")
    assert result["exception_info"] is None, result
    assert result["verifier_result"]["rewards"] == {"reward": 1.0}


def test_a_solution_that_fills_its_memory_is_a_failed_one(tmp_path: Path) -> None:
    need("docker")
    hungry = "#!/bin/bash\npython3 -c 'bytearray(10**9)'; echo $? > answer.txt\n"
    place = task(tmp_path, solution__solve_sh=hungry)
    result, _ = run(tmp_path, place, "oracle", "--ek", "provider=docker")
    assert result["verifier_result"]["rewards"] == {"reward": 0.0}


def test_a_wall_that_runs_no_image_says_which_can(tmp_path: Path) -> None:
    need("docker")
    need("landlock")
    result, _ = run(tmp_path, task(tmp_path), "oracle", "--ek", "provider=landlock")
    said = result["exception_info"]["exception_message"]
    assert "landlock builds no Dockerfile" in said
    assert "docker" in said.partition("what can serve here is: ")[2]
