"""The environment, called as Harbor calls it, and the page."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Awaitable, Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from harbor.models.task.config import EnvironmentConfig, NetworkMode, NetworkPolicy
from harbor.models.trial.paths import TrialPaths

import stockade
from conftest import need
from plugins.harbor.tasks import DOCKERFILE, run, task
from stockade_docker import engine
from stockade_harbor import StockadeEnvironment, environment

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "harbor.md").read_text()
CLOSED = NetworkPolicy(network_mode=NetworkMode.NO_NETWORK)


def made(folder: Path, policy: NetworkPolicy = CLOSED, **options: Any) -> StockadeEnvironment:
    place = folder / "environment"
    place.mkdir(exist_ok=True)
    (place / "Dockerfile").write_text(DOCKERFILE)
    options.setdefault("task_env_config", EnvironmentConfig())
    options.setdefault("provider", "docker")
    return StockadeEnvironment(
        environment_dir=place,
        environment_name="test",
        session_id="test__1__env",
        trial_paths=TrialPaths(trial_dir=folder / "trial"),
        network_policy=policy,
        **options,
    )


def within(
    one: StockadeEnvironment, work: Callable[[StockadeEnvironment], Awaitable[None]]
) -> None:
    need("docker")

    async def main() -> None:
        await one.start(False)
        try:
            await work(one)
        finally:
            await one.stop(True)
        await one.stop(True)

    asyncio.run(main())
    assert not stockade.default_runtime().registry.records()


def test_commands(tmp_path: Path) -> None:
    async def work(one: StockadeEnvironment) -> None:
        done = await one.exec("pwd; echo $NAME $MORE >&2; exit 3", env={"MORE": "given"})
        assert (done.stdout, done.stderr, done.return_code) == ("/app\n", "always given\n", 3)
        assert (await one.exec("[[ -d . ]] && pwd", cwd="/tests")).stdout == "/tests\n"
        assert (await one.exec("id -u", user="root")).stdout != "0\n"
        with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
            await one.exec("sleep 1234.5 & sleep 60", timeout_sec=1)
        left = await one.exec("grep -al '1234[.]5' /proc/[0-9]*/cmdline")
        assert left.stdout == "", "all of its tree has ended"
        with pytest.raises(stockade.UnsupportedError, match="user='agent'"):
            await one.exec("id", user="agent")
        await one.exec("(sleep 60 > /dev/null 2>&1 &)")
        killed = await one.exec("kill -9 $$")
        assert killed.return_code == 137 and "signalled" in (killed.stderr or "")

    within(made(tmp_path, persistent_env={"NAME": "always"}), work)


def test_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "run.sh").write_text("echo ran")
    (source / "deep" / "run.sh").chmod(0o755)

    async def work(one: StockadeEnvironment) -> None:
        await one.upload_dir(source, "/tests")
        assert (await one.exec("/tests/deep/run.sh", cwd="/tests")).stdout == "ran\n"
        await one.upload_file(source / "deep" / "run.sh", "/app/new/run.sh")
        await one.download_file("/app/new/run.sh", tmp_path / "back" / "run.sh")
        assert (tmp_path / "back" / "run.sh").read_text() == "echo ran"
        await one.exec("cd /logs/agent; ln -s /etc/passwd out; mkfifo pipe; echo in > kept")
        await one.download_dir("/logs/agent", tmp_path / "logs")
        assert {path.name for path in (tmp_path / "logs").iterdir()} == {"kept"}
        assert await one.is_dir("/app/new") and await one.is_file("/app/given.txt")

    within(made(tmp_path), work)


def test_the_network_is_as_the_task_says(tmp_path: Path) -> None:
    async def work(one: StockadeEnvironment) -> None:
        routes = await one.exec("cat /proc/net/route | wc -l")
        assert routes.stdout == "1\n"

    within(made(tmp_path), work)
    allowed = NetworkPolicy(network_mode=NetworkMode.ALLOWLIST, allowed_hosts=["pypi.org"])
    assert made(tmp_path, allowed)._fields()["network_allow"] == ("pypi.org",)
    assert made(tmp_path, NetworkPolicy())._fields()["network_enabled"] is True
    wild = NetworkPolicy(network_mode=NetworkMode.ALLOWLIST, allowed_hosts=["*.pypi.org"])
    with pytest.raises(ValueError, match="wildcard hostnames is not supported"):
        made(tmp_path, wild)


def test_limits_are_the_task_s_unless_the_operator_says_others(tmp_path: Path) -> None:
    need("docker")
    config = EnvironmentConfig(cpus=2, memory_mb=300)

    async def limits(provider: str) -> tuple[Any, Any]:
        one = made(tmp_path, task_env_config=config, provider=provider)
        await one.start(False)
        try:
            found = one._running().sync.provider.config
            return found.memory_mb, found.cpu_limit
        finally:
            await one.stop(True)

    assert asyncio.run(limits("docker")) == (300, 2.0)
    assert asyncio.run(limits("nowhere-docker | docker?memory_mb=400")) == (400, 2.0)


@pytest.mark.parametrize("kind", [stockade.CapacityError, stockade.PolicyRefusedError])
def test_what_no_wall_has_said_leads_to_no_other_wall(
    kind: type[stockade.StockadeError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, tried = made(tmp_path, provider="gvisor | docker"), []

    async def opened(text: str, _: bool) -> Any:
        tried.append(text)
        raise kind("no")

    monkeypatch.setattr(one, "_opened", opened)
    with pytest.raises(kind):
        asyncio.run(one.start(False))
    assert tried == ["gvisor"]


def test_a_task_leaves_one_image_which_is_its_next_trial_s(tmp_path: Path) -> None:
    need("docker")
    api, ids = engine.client(None), []

    def names() -> set[str]:
        return {str(tag) for image in api.images() for tag in image["RepoTags"] or ()}

    async def work(one: StockadeEnvironment) -> None:
        ids.append(api.inspect_image(one._running().sync.provider.wall.target)["Id"])

    before = names()
    for _ in range(2):
        within(made(tmp_path), work)
    left = [name for name in names() - before if name.startswith("stockade-harbor/")]
    assert len(left) == 1 and ids[0] == ids[1], (left, ids)
    api.remove_image(left[0])


@pytest.mark.parametrize(
    ("name", "says"), [("docker-compose.yaml", "compose's services"), (None, "has no Dockerfile")]
)
def test_definitions_that_it_cannot_run(name: str | None, says: str, tmp_path: Path) -> None:
    def build() -> None:
        made(tmp_path)

    (tmp_path / "environment").mkdir()
    if name:
        (tmp_path / "environment" / name).write_text("services: {}")
        with pytest.raises(ValueError, match=says):
            build()
        return
    with pytest.raises(FileNotFoundError, match=says):
        StockadeEnvironment(
            environment_dir=tmp_path,
            environment_name="test",
            session_id="test",
            trial_paths=TrialPaths(trial_dir=tmp_path),
            task_env_config=EnvironmentConfig(),
        )


def test_a_dockerfile_that_does_not_build(tmp_path: Path) -> None:
    need("docker")
    one = made(tmp_path)
    (tmp_path / "environment" / "Dockerfile").write_text("FROM stockade-test/work\nRUN exit 7\n")
    with pytest.raises(stockade.UnsupportedError, match="building Dockerfile in .* failed"):
        asyncio.run(one.start(False))
    assert not stockade.default_runtime().registry.records()


def test_another_version_is_warned_of_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(environment, "_TESTED", ("0.1.0", "0.2.0"))
    made(tmp_path)
    assert "tested with harbor 0.1.0 to 0.2.0, and 0.25.0 is installed" in caplog.text


def test_the_page_s_command(tmp_path: Path) -> None:
    need("docker")
    [block] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    [line] = [one for one in block.splitlines() if one.startswith("harbor run")]
    words = line.partition("#")[0].split()
    assert words[:6] == ["harbor", "run", "-p", "TASK", "-a", "oracle"]
    assert words[6:8] == ["--env", "stockade_harbor:StockadeEnvironment"]
    result, _ = run(tmp_path, task(tmp_path), "oracle", *words[8:])
    assert result["verifier_result"]["rewards"] == {"reward": 1.0}


def test_the_versions_are_the_same_everywhere() -> None:
    [number] = set(environment._TESTED)
    assert number in PAGE
    assert number in (ROOT / "plugins" / "harbor" / "README.md").read_text()
    assert f"harbor=={number}" in (ROOT / "tox.ini").read_text()
    assert any(">=0.25" in one for one in requires("stockade-harbor") or ())
    project = tomllib.loads((ROOT / "plugins" / "harbor" / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.12"
