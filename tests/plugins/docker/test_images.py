"""Pulling, from a registry of the tests' own: policies, digests, progress, a bounded time."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import docker
import pytest
from docker.errors import ImageNotFound

import stockade
from plugins.docker.conftest import BUSYBOX, ours, until
from plugins.docker.registry import Registry, serving
from stockade.errors import SandboxStartError
from stockade_docker import wall as container_wall

pytestmark = pytest.mark.engine


@pytest.fixture
def registry(engine: docker.APIClient) -> Iterator[Registry]:
    """Offers the busybox image."""
    with serving() as made:
        made.hold(engine, BUSYBOX)
        yield made
        container_wall._there.clear()
        for image in engine.images():
            names = (image["RepoTags"] or []) + (image["RepoDigests"] or [])
            for name in names:
                if name.startswith(made.image):
                    with contextlib.suppress(ImageNotFound):  # it went with another name
                        engine.remove_image(name, force=True)


def opens(image: str, options: str = "") -> str:
    with stockade.open(f"docker:{image}{options}") as session:
        return session.run(["echo", "pulled"]).stdout


def test_a_missing_image_is_pulled_once(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SandboxStartError, match="pull=never"):
        opens(registry.image, "?pull=never")
    assert not registry.asked
    with caplog.at_level(logging.WARNING):
        assert opens(registry.image) == "pulled\n"
    assert f"pulling image {registry.image}" in caplog.text and "pulled" in caplog.text
    asked = len(registry.asked)
    assert asked and opens(registry.image) == "pulled\n"
    assert opens(registry.image, "?pull=never") == "pulled\n"
    assert len(registry.asked) == asked


def test_always_asks_the_registry_each_time(registry: Registry) -> None:
    for _ in range(2):
        registry.asked.clear()
        assert opens(registry.image, "?pull=always") == "pulled\n"
        assert "latest" in registry.asked


def test_a_tag_and_no_other_is_pulled(registry: Registry) -> None:
    assert opens(f"{registry.image}:second") == "pulled\n"
    assert "second" in registry.asked and "latest" not in registry.asked


def test_a_digest_is_honoured(registry: Registry, engine: docker.APIClient) -> None:
    assert opens(f"{registry.image}@{registry.digest}") == "pulled\n"
    assert registry.digest in registry.asked and "latest" not in registry.asked
    assert opens(f"{registry.image}:second@{registry.digest}") == "pulled\n"  # it stands over a tag
    assert "second" not in registry.asked
    other = f"{registry.image}@sha256:{'0' * 64}"
    with pytest.raises(SandboxStartError, match="cannot be pulled"):
        opens(other)


def test_a_registry_that_lies_about_a_digest(registry: Registry) -> None:
    digest = registry.digest
    registry.manifest = registry.manifest.replace(b'"schemaVersion": 2', b'"schemaVersion":  2')
    registry.lies = digest
    with pytest.raises(SandboxStartError, match="cannot be pulled"):
        opens(f"{registry.image}@{digest}")
    assert digest in registry.asked


def test_a_pull_has_a_bounded_time_of_its_own(
    registry: Registry, engine: docker.APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than a start may take, and no longer than it was given."""
    registry.stall = True
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(SandboxStartError, match="pull_seconds"):
        stockade.open(f"docker:{registry.image}?pull_seconds=4&startup_timeout_seconds=1")
    assert 3.5 < time.monotonic() - began < 20
    assert not ours(engine)


def test_progress_is_reported(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stockade_docker.images._PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        opens(registry.image)
    reported = [line for line in caplog.messages if line.startswith(f"pulling {registry.image}: ")]
    assert reported


def test_no_registry_there() -> None:
    with pytest.raises(SandboxStartError, match="cannot be pulled"):
        stockade.open("docker:127.0.0.1:1/stockade-test/nowhere?pull_seconds=20")


def test_the_end_of_a_program_does_not_wait_for_a_pull(registry: Registry) -> None:
    registry.stall = True
    code = (
        "import stockade, time\n"
        f"pool = stockade.Pool('docker:{registry.image}', size=2)\n"
        "print('up', flush=True)\n"
        "for _ in range(600): time.sleep(0.05)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as owner:
        try:
            assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
            assert until(lambda: any(name in registry.blobs for name in registry.asked))
            began = time.monotonic()
            owner.send_signal(signal.SIGINT)
            owner.communicate(timeout=60)
            assert time.monotonic() - began < 15
        finally:
            owner.kill()
