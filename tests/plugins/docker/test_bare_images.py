"""Images without a shell run as they are."""

from __future__ import annotations

import docker
import pytest

import stockade
from conftest import need

pytestmark = pytest.mark.engine

BARE = "stockade-test/noshell"


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_its_own_program_runs(wall: str, engine: docker.APIClient) -> None:
    need(wall)
    with stockade.open(f"{wall}:{BARE}") as session:
        assert session.run(["true"]).success
        assert session.run(["/bin/true"]).success
        missing = session.shell("echo hi")
        assert missing.exit_code == 127 and "sh: not found" in missing.stderr
        late = session.run(["true"], timeout=5)
        assert late.success


def test_what_it_lacks_is_named(engine: docker.APIClient) -> None:
    with stockade.open(f"docker:{BARE}") as session:
        with pytest.raises(stockade.errors.LanguageError):
            session.code("print(1)")
