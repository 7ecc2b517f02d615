"""Images without a shell: another's is put beside their files."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound, NotFound

import stockade
from plugins.docker.conftest import BUSYBOX, PYTHON, ours
from stockade import Verdict, collect
from stockade.errors import SandboxStartError
from stockade.ledger import SqliteLedger
from stockade.owner import Owner
from stockade.runtime import Runtime
from stockade_docker import shells
from stockade_docker import wall as container_wall
from stockade_docker.create import HELPER
from stockade_docker.shells import FOLDER

pytestmark = pytest.mark.engine

BARE = "stockade-test/noshell"


@pytest.fixture(autouse=True)
def made_anew(engine: docker.APIClient) -> Iterator[None]:
    """What other tests had made is not there, and what these make is removed."""

    def clear() -> None:
        for api in list(container_wall._bare):
            container_wall._bare[api].clear()
        for image in engine.images(filters={"label": HELPER}):
            engine.remove_image(image["Id"], force=True)

    clear()
    yield
    clear()


@pytest.fixture
def bare_python(engine: docker.APIClient) -> Iterator[str]:
    """An image with Python and no shell, as the "distroless" ones are."""
    line = "import os; [os.remove(f'/{d}/{s}') for d in ('bin', 'usr/bin') for s in "
    line += "('sh', 'dash', 'bash', 'rbash') if os.path.lexists(f'/{d}/{s}')]"
    container = engine.create_container(PYTHON, ["python3", "-c", line])["Id"]
    try:
        engine.start(container)
        assert engine.wait(container)["StatusCode"] == 0
        engine.commit(container, repository="stockade-test/bare-python")
    finally:
        engine.remove_container(container, force=True)
    yield "stockade-test/bare-python"
    engine.remove_image("stockade-test/bare-python", force=True)


@pytest.mark.parametrize("wall", ["docker", "gvisor"])
def test_an_image_without_a_shell_gets_one(wall: str, engine: docker.APIClient) -> None:
    before = engine.inspect_image(BARE)["Id"]
    for _ in range(2):  # made, and made before
        with stockade.open(f"{wall}:{BARE}?shell={BUSYBOX}") as session:
            assert session.run(["true"]).success
            assert session.shell("echo $((6 * 7)) | cat").stdout == "42\n"
            assert session.shell("sleep 60 & sleep 60", timeout=0.5).verdict is Verdict.TIMED_OUT
            session.files.write_text("a.txt", "written")
            assert session.files.read_text("a.txt") == "written"
            # The image's own programs come first, and what was added is nobody's to change.
            assert session.shell("echo $PATH").stdout.endswith(f"/bin:{FOLDER}\n")
            assert not session.shell(f"echo x > {FOLDER}/sh || rm {FOLDER}/sh").success
            session.files.write_text("script", "#!/bin/sh\necho run\n")
            assert session.shell("chmod +x script && ./script").stdout == "run\n"
    assert engine.inspect_image(BARE)["Id"] == before
    assert len(engine.images(filters={"label": HELPER})) == 1
    assert not engine.containers(all=True, filters={"label": HELPER, "status": "created"})


def test_what_an_image_has_beside_a_shell_works_as_ever(bare_python: str) -> None:
    with stockade.open(f"docker:{bare_python}?shell={BUSYBOX}") as session:
        first = session.code("import sys; print([len(sys.argv)])")
        assert first.stdout == "[1]\n", first.stderr
        session.code("x = 41", state="s")
        assert session.code("print(x + 1)", state="s").stdout == "42\n"
        assert session.run(["python3", "-c", "print(2)"]).stdout == "2\n"


def test_it_can_be_left_and_found_again(tmp_path: Path) -> None:
    runtime = Runtime(discover_plugins=False, ledger=SqliteLedger(tmp_path / "ledger.sqlite"))
    string = f"docker:{BARE}?shell={BUSYBOX}&durable=true&lifetime_seconds=600"
    first = stockade.open(string, agent_id="a", runtime=runtime)
    first.shell("echo mine > kept")
    first.detach()
    with stockade.attach(first.session_id, agent_id="a", runtime=runtime) as again:
        assert again.shell("cat kept").stdout == "mine\n"


def test_it_can_be_refused(engine: docker.APIClient) -> None:
    before = ours(engine)
    with pytest.raises(SandboxStartError, match=r"no shell.*needs sh"):
        stockade.open(f"docker:{BARE}?pull=never&shell=none")
    with pytest.raises(SandboxStartError, match=r"busybox:musl.*pull=never"):
        stockade.open(f"docker:{BARE}?pull=never")
    assert ours(engine) == before  # C5


@pytest.mark.parametrize(("shell", "why"), [(BARE, "no /bin/busybox"), (PYTHON, "no /bin/busybox")])
def test_an_image_that_has_no_busybox_to_give(shell: str, why: str, engine: Any) -> None:
    with pytest.raises(SandboxStartError, match=why):
        stockade.open(f"docker:{BARE}?shell={shell}")
    assert not engine.containers(all=True, filters={"label": HELPER})


def test_an_image_that_changes_is_looked_at_again(engine: docker.APIClient) -> None:
    name = "stockade-test/changing"
    try:
        for text in ("one", "two"):
            container = engine.create_container(BARE, ["true"])["Id"]
            engine.put_archive(container, "/", _archive("told", text.encode()))
            engine.commit(container, repository=name)
            engine.remove_container(container)
            with stockade.open(f"docker:{name}?shell={BUSYBOX}") as session:
                assert session.shell("cat /told").stdout == text
    finally:
        with pytest.raises(ImageNotFound):
            while True:
                engine.remove_image(name, force=True)


def test_what_a_dead_process_made_halfway_is_collected(
    engine: docker.APIClient, runtime: Runtime
) -> None:
    code = "from stockade.owner import Owner; print(Owner.current())"
    dead = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    living = str(Owner.current())
    with (
        shells._helper(engine, BARE, dead.stdout.strip()) as left,
        shells._helper(engine, BARE, living) as used,
    ):
        done = collect(runtime=runtime, strings=["docker"])
        removed = [name for name, _, _ in done.removed]
        assert f"helper-{left[:12]}" in removed and f"helper-{used[:12]}" not in removed
        engine.inspect_container(used)
        with pytest.raises(NotFound):
            engine.inspect_container(left)


def _archive(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        head = tarfile.TarInfo(name)
        head.size = len(data)
        tar.addfile(head, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("program", "static"),
    [
        (b"", False),
        (b"#!/bin/sh\n", False),
        (b"\x7fELF\x02\x01" + bytes(26) + (64).to_bytes(8, "little") + bytes(14)
         + (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
         + (1).to_bytes(4, "little"), True),
        (b"\x7fELF\x02\x01" + bytes(26) + (64).to_bytes(8, "little") + bytes(14)
         + (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
         + (3).to_bytes(4, "little"), False),
        (b"\x7fELF\x02\x01" + bytes(26) + (9999).to_bytes(8, "little") + bytes(14)
         + (56).to_bytes(2, "little") + (1).to_bytes(2, "little"), False),
    ],
)  # fmt: skip
def test_what_runs_beside_any_files(program: bytes, static: bool) -> None:
    assert shells._is_static(program) is static
