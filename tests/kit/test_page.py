"""The page for authors shows what `stockade new-plugin` writes, and code that works."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from stockade import SandboxConfig, Session, Verdict
from stockade.capabilities import Capabilities, Feature, refusals
from stockade.cli.commands.new_plugin import rendered
from stockade.sessions._providers import WallProvider
from stockade.sessions._runtime import Runtime
from stockade.toolkit.supervised import SupervisedSandbox
from stockade.wall import Availability, OpenRequest, Output, Running, Sandbox, Wall

PAGE = (Path(__file__).parents[2] / "docs" / "writing-a-provider.md").read_text()
MARKED = re.compile(r"<!-- (file|part|tested): (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def test_the_whole_plug_in_is_the_template() -> None:
    written = dict(rendered("demo"))
    shown = [match.groups() for match in MARKED.finditer(PAGE)]
    for kind, path, text in shown:
        if kind == "file":
            assert text == written[path], f"{path} on the page is not what new-plugin writes"
        if kind == "part":
            assert text in written[path], f"{path}: the page's part is not in it"
    assert [kind for kind, _, _ in shown] == ["file", "file", "part", "file", "tested"]


def test_the_whole_plug_in_is_short() -> None:
    wall = dict(rendered("demo"))["src/stockade_demo/wall.py"]
    assert len(wall.splitlines()) <= 100


@pytest.mark.parametrize("kind", [Wall, Sandbox, Running, Output, SupervisedSandbox])
def test_every_method_is_on_the_page(kind: type) -> None:
    methods = [
        name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")
    ]
    if kind is SupervisedSandbox:  # what its author gives, not what it is made of
        methods = [*sorted(kind.__abstractmethods__), "force_end", "freeze", "post_mortem"]
    missing = [name for name in methods if not re.search(rf"`(\w+\.)?{name}\(", PAGE)]
    missing = [name for name in missing if f"`{name}`" not in PAGE]
    assert not missing, f"docs/writing-a-provider.md says nothing of {kind.__name__}.{missing[0]}"


def test_every_feature_is_on_the_page() -> None:
    assert not [str(feature) for feature in Feature if f"`{feature}`" not in PAGE]


def test_what_a_bare_name_needs_is_on_the_page() -> None:
    needed = [str(need.feature) for need in refusals(SandboxConfig(), Capabilities())]
    said = next(part for part in PAGE.split("\n\n") if part.startswith("A bare name asks"))
    assert [name for name in re.findall(r"`([a-z-]+)`", said) if name in needed] == needed


def _held() -> Any:
    """The page's supervised wall, executed from the page."""
    (text,) = (match[3] for match in MARKED.finditer(PAGE) if match[1] == "tested")
    names: dict[str, Any] = {"__name__": "held"}
    exec(compile(text, "writing-a-provider.md", "exec", dont_inherit=True), names)
    tried = subprocess.run([*names["OUT"], "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no namespaces for this user: {tried.stderr.strip()}")
    return names["HeldSandbox"]


def test_the_supervised_wall_of_the_page_works() -> None:
    made = _held()

    class HeldWall(Wall):
        capabilities = Capabilities(
            dict.fromkeys(
                ("argv", "shell", "code", "stateful", "background", "network", "writable-root"),
                "native",
            )
        )

        def probe(self) -> Availability:
            return Availability()

        def open(self, request: OpenRequest) -> Sandbox:
            sandbox: Sandbox = made()
            return sandbox

    config = SandboxConfig(
        memory_mb=None,
        cpu_limit=None,
        max_processes=None,
        disk_mb=None,
        network_enabled=True,
        read_only_fs=False,
    )
    provider = WallProvider("held", HeldWall(), config, Runtime(discover_plugins=False))
    with Session(provider, provider.open_record("author")) as session:
        assert session.run(["echo", "hi"]).stdout == "hi\n"
        assert session.shell("echo $((6*7)); exit 3").exit_code == 3
        both = [session.start(["sh", "-c", f"sleep 0.3; echo {n}"]) for n in range(3)]
        assert [execution.result(60).stdout for execution in both] == ["0\n", "1\n", "2\n"]
        mark = f"61.{os.getpid()}"
        line = f"setsid sleep {mark} & setsid sleep {mark} & sleep {mark}"
        late = session.shell(line, timeout=0.5)
        assert late.verdict is Verdict.TIMED_OUT and _gone(mark)
        assert session.shell(f"setsid sleep {mark} & echo left behind").success
    assert _gone(mark)


def _gone(mark: str) -> bool:
    deadline = time.monotonic() + 10
    while _alive(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _alive(mark)


def _alive(seconds: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(path.parent.name)
    return found


def test_what_it_shows_of_the_versions_is_true() -> None:
    from stockade.plugin import PLUGIN_API_VERSION

    assert f"STOCKADE_API_VERSION = {PLUGIN_API_VERSION}" in PAGE
