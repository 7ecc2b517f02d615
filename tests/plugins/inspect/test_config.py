"""What a configuration asks for: the model, compose files, Dockerfiles, stockade.toml."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pydantic
import pytest
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.util import ComposeConfig, SandboxEnvironmentSpec
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv

from stockade_inspect import StockadeConfig
from stockade_inspect.config import wanted
from stockade_inspect.environment import StockadeSandbox
from stockade_inspect.wanted import Build, Wanted

NONE: dict[str, str] = {}


def of_file(path: Path, text: str, wall: str = "", **metadata: str) -> tuple[Wanted, ...]:
    path.write_text(text)
    return wanted(str(path), wall, metadata)


def compose(tmp_path: Path, text: str, wall: str = "", **metadata: str) -> tuple[Wanted, ...]:
    return of_file(tmp_path / "compose.yaml", text, wall, **metadata)


# -- the model -----------------------------------------------------------------------------


def test_the_model_is_frozen_hashable_and_round_trips() -> None:
    config = StockadeConfig(provider="docker:python:3.12-slim?memory_mb=256 | local")
    same = StockadeConfig(**config.model_dump())
    assert config == same and hash(config) == hash(same)
    assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.provider = "landlock"  # type: ignore[misc]


def test_it_comes_back_from_inspect_s_log() -> None:
    spec = SandboxEnvironmentSpec("stockade", StockadeConfig(provider="gvisor:busybox"))
    assert SandboxEnvironmentSpec.model_validate_json(spec.model_dump_json()) == spec
    assert len({spec, SandboxEnvironmentSpec("stockade", spec.config)}) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"provider": "docker:"}, "the target after 'docker' is empty"),
        ({"provider": "docker | docker"}, "twice"),
        ({"image": "busybox"}, "image"),
    ],
)
def test_a_wrong_model_is_refused_when_built(given: dict[str, str], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        StockadeConfig(**given)


def test_the_model_s_string_is_opened() -> None:
    (one,) = wanted(StockadeConfig(provider="docker:busybox?memory_mb=64 | local"), "", NONE)
    assert one.preference == (
        "docker:busybox?memory_mb=64&lifetime_seconds=none | local?lifetime_seconds=none"
    )
    (one,) = wanted(StockadeConfig(provider="landlock?lifetime_seconds=60"), "", NONE)
    assert one.preference == "landlock?lifetime_seconds=60"


def test_nothing_at_all_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOCKADE_PROVIDER", raising=False)
    assert wanted(None, "", NONE)[0].preference == "local?lifetime_seconds=none"
    assert wanted(None, "gvisor", NONE)[0].preference == "gvisor?lifetime_seconds=none"
    monkeypatch.setenv("STOCKADE_PROVIDER", "landlock?memory_mb=64")
    given = "landlock?memory_mb=64&lifetime_seconds=none"
    assert wanted(None, "", NONE)[0].preference == given


def test_a_type_for_one_wall_takes_no_other() -> None:
    with pytest.raises(PrerequisiteError, match="stockade-landlock and its configuration names"):
        wanted(StockadeConfig(provider="docker:busybox"), "landlock", NONE)
    assert wanted(StockadeConfig(), "landlock", NONE)[0].provider == "landlock"


def test_a_text_that_is_no_file_says_what_to_write(tmp_path: Path) -> None:
    """inspect has made an absolute path of the provider string."""
    with pytest.raises(PrerequisiteError, match="StockadeConfig\\(provider="):
        wanted(str(tmp_path / "gvisor:python:3.12-slim?memory_mb=256"), "", NONE)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PrerequisiteError, match="neither a compose file"):
        wanted(str(tmp_path / "notes.txt"), "", NONE)


def test_a_foreign_model_is_refused() -> None:
    class Other(pydantic.BaseModel):
        pass

    with pytest.raises(PrerequisiteError, match="a Other is no configuration of stockade's"):
        wanted(Other(), "", NONE)


# -- stockade.toml -------------------------------------------------------------------------


def test_stockade_toml(tmp_path: Path) -> None:
    """The user names it, so it may raise limits and open hosts."""
    text = 'provider = ["gvisor:busybox?memory_mb=4096&network_allow=pypi.org", "local"]'
    (one,) = of_file(tmp_path / "stockade.toml", text)
    assert one.provider == "gvisor:busybox?memory_mb=4096&network_allow=pypi.org | local"
    with pytest.raises(PrerequisiteError, match="names no provider"):
        of_file(tmp_path / "other.toml", "")
    with pytest.raises(PrerequisiteError, match="did you mean 'provider'"):
        of_file(tmp_path / "other.toml", 'provder = "docker"')


# -- compose files -------------------------------------------------------------------------

WHOLE = """
services:
  default:
    image: stockade-test/python
    command: tail -f /dev/null
    init: true
    mem_limit: 1.5g
    cpus: 0.5
    pids_limit: 99
    environment:
      GREETING: hello
    working_dir: /work
    network_mode: none
    user: "1234:5678"
    read_only: true
    x-local: true
"""


def test_what_a_service_may_say(tmp_path: Path) -> None:
    (one,) = compose(tmp_path, WHOLE)
    assert one.name == "default" and one.notes == ()
    assert one.preference == "docker:stockade-test/python?lifetime_seconds=none"
    assert one.fields == {
        "memory_mb": 1536,
        "cpu_limit": 0.5,
        "max_processes": 99,
        "env_vars": {"GREETING": "hello"},
        "working_dir": "/work",
        "network_enabled": False,
        "user": "1234:5678",
        "read_only_fs": True,
    }
    assert "hello" not in repr(one), "values of variables show nowhere (B4)"


def test_the_other_ways_to_say_it(tmp_path: Path) -> None:
    text = """
services:
  only:
    image: busybox
    command: [sleep, infinity]
    environment: ["A=1", "B=x=y"]
    network_mode: bridge
    deploy: {resources: {limits: {cpus: "2", memory: 256m}}}
"""
    (one,) = compose(tmp_path, text)
    assert one.fields == {
        "memory_mb": 256,
        "cpu_limit": 2.0,
        "env_vars": {"A": "1", "B": "x=y"},
        "network_enabled": True,
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("volumes: ['.:/data']", "volumes is not held"),
        ("ports: ['80:80']\n    cap_add: [SYS_PTRACE]", "cap_add, ports are not held"),
        ("privileged: true", "privileged is not held"),
        ("network_mode: host", "network_mode: host is not held"),
        ("command: ./server", "command is not held.*unless it waits for ever"),
        ("environment: [HOME]", "HOME has no value"),
        ("environment: {TOKEN: '${TOKEN}'}", "TOKEN.*no variables of this machine"),
        ("mem_limit: plenty", "'plenty' is no size"),
        ("healthcheck: {test: 'true'}", "healthcheck is not held"),
        ("deploy: {resources: {reservations: {memory: 1g}}}", "reservations is not held"),
        ("x-stockade: 'docker:other'", "x-stockade names walls"),
        ("container_name: one", "Unknown field: 'container_name'"),
    ],
)
def test_what_is_not_held_is_refused_by_name(tmp_path: Path, line: str, words: str) -> None:
    text = f"services:\n  default:\n    image: busybox\n    {line}\n"
    with pytest.raises(PrerequisiteError, match=f"(?s){words}"):
        compose(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: {}", "has no services"),
        ("- a list", "has no services"),
        ("services: [", "is no YAML"),
        ("services: {a: {image: b}}\nvolumes: {data: {}}", "volumes is not held"),
        ("services: {a: {image: b}, c: {image: d}}", "name a service 'default'"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PrerequisiteError, match=words):
        compose(tmp_path, text)


def test_no_value_of_a_variable_shows(tmp_path: Path) -> None:
    """B4."""
    text = "services: {default: {image: {}, environment: {TOKEN: s3cret}}}"
    with pytest.raises(PrerequisiteError, match="image: Input should be a valid string") as caught:
        compose(tmp_path, text)
    assert "s3cret" not in str(caught.value) and "s3cret" not in repr(caught.value.__cause__)


def test_several_services_the_default_first(tmp_path: Path) -> None:
    text = "services:\n  a: {image: one}\n  b: {image: two, x-default: true}\n  c: {image: three}\n"
    found = compose(tmp_path, text, "gvisor")
    assert [one.name for one in found] == ["b", "a", "c"]
    assert found[0].preference == "gvisor:two?lifetime_seconds=none"


def test_an_open_network_is_never_guessed(tmp_path: Path) -> None:
    (one,) = compose(tmp_path, "services: {default: {image: busybox}}")
    assert "network_enabled" not in one.fields
    assert "network_mode: none, or bridge" in one.notes[0]


def test_a_file_names_walls(tmp_path: Path) -> None:
    text = """
x-stockade: gvisor | docker?disk_mb=512
services:
  default: {image: busybox, network_mode: none}
"""
    (one,) = compose(tmp_path, text)
    assert one.preference == (
        "gvisor:busybox?lifetime_seconds=none | docker:busybox?disk_mb=512&lifetime_seconds=none"
    )
    with pytest.raises(PrerequisiteError, match="names gvisor"):
        compose(tmp_path, text, "docker")


def test_metadata_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "services:\n  default:\n    image: img:${SAMPLE_METADATA_TAG}\n"
        "    cpus: ${SAMPLE_METADATA_CPU_COUNT}\n    environment: [PRICE=$$5]\n"
    )
    metadata = {"tag": "seven", "cpu count": "2"}
    (one,) = of_file(tmp_path / "compose.yaml", text, "", **metadata)
    assert one.image == "img:seven" and one.fields["cpu_limit"] == 2.0
    assert one.fields["env_vars"] == {"PRICE": "$5"}
    # At a task's start inspect hands them over in the environment.
    monkeypatch.setenv("SAMPLE_METADATA_TAG", "seven")
    monkeypatch.setenv("SAMPLE_METADATA_CPU_COUNT", "2")
    assert compose(tmp_path, text) == (one,)


@pytest.mark.anyio
async def test_samples_of_other_metadata_have_a_start_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("services: {default: {image: 'i:${SAMPLE_METADATA_TAG}'}}")
    metadata = {"tag": "seven", "other": "thing"}
    env = await StockadeSandbox.task_init_environment(str(path), metadata)
    assert env == {"SAMPLE_METADATA_TAG": "seven"}
    assert await StockadeSandbox.task_init_environment(None, metadata) == {}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_inspect_s_own_model_of_a_compose_file() -> None:
    config = ComposeConfig.model_validate({"services": {"default": {"image": "busybox"}}})
    assert wanted(config, "gvisor", NONE)[0].image == "busybox"
    spec = SandboxEnvironmentSpec("stockade", config)
    assert SandboxEnvironmentSpec.model_validate_json(spec.model_dump_json()).config == config


def test_a_wall_without_images_refuses_one(tmp_path: Path) -> None:
    (one,) = compose(tmp_path, "services: {default: {image: busybox}}", "landlock")
    with pytest.raises(NotImplementedError, match="landlock runs no image"):
        _ = one.preference


# -- Dockerfiles, and what is looked for beside a task ---------------------------------------


def test_dockerfiles(tmp_path: Path) -> None:
    for name in ("Dockerfile", "Dockerfile.tools", "tools.Dockerfile"):
        (one,) = of_file(tmp_path / name, "FROM busybox", "gvisor")
        assert one.build == Build(str(tmp_path), name)
    text = "services: {default: {build: {context: sub, dockerfile: D}, network_mode: none}}"
    (one,) = compose(tmp_path, text)
    assert one.build == Build(str(tmp_path / "sub"), "D") and one.image is None


def test_what_is_found_beside_a_task() -> None:
    names = StockadeSandbox.config_files()
    assert names[0] == "stockade.toml" and {"compose.yaml", "Dockerfile"} <= set(names)
    assert "stockade.toml" not in registry_find_sandboxenv("stockade-docker").config_files()
    assert StockadeSandbox.is_docker_compatible()
