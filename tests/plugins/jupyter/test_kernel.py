"""Kernels behind walls, used as Jupyter's own programs use them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient.exceptions import DeadKernelError

import stockade
from conftest import need, until
from plugins.jupyter.kernels import data, install, opened
from stockade_jupyter import kernel

__all__ = ["data"]

pytestmark = [
    pytest.mark.timeout(240),
    # Jupyter's own: sockets and loops of clients that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
#: A PNG of one pixel.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CELLS = [
    "import os\nopen('kept', 'w').write('of the first cell')\nprint('hello')",
    "6 * 7",
    f"from IPython.display import Image\nimport base64\nImage(base64.b64decode('{PICTURE}'))",
    "print(open('kept').read())\n1 / 0",
]


def notebook(*cells: str) -> nbformat.NotebookNode:
    plain = [nbformat.v4.new_code_cell(one) for one in cells]  # type: ignore[no-untyped-call]
    made: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=plain)  # type: ignore[no-untyped-call]
    return made


def left() -> list[str]:
    """Folders of sockets; both places where they may be."""
    places = {tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()}
    return [str(one) for place in places for one in Path(place).glob("stockade-jupyter-*")]


def listening() -> set[str]:
    """TCP sockets that listen, of this process; others' come and go."""
    own = set()
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            own.add(os.readlink(f"/proc/self/fd/{one}"))
    found = set()
    for name in ("tcp", "tcp6"):
        path = Path("/proc/net", name)
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        fields = [line.split() for line in lines]
        found |= {one[1] for one in fields if one[3] == "0A" and f"socket:[{one[9]}]" in own}
    return found


@pytest.mark.parametrize("wall", ["landlock", "bubblewrap", "docker", "gvisor"])
def test_nbclient_executes_a_notebook(wall: str, data: Path) -> None:
    name, before = install(data, wall), left()
    made = notebook(*CELLS)
    nbclient.NotebookClient(
        made, kernel_name=name, allow_errors=True, startup_timeout=120, timeout=120
    ).execute()
    first, second, third, fourth = (cell.outputs for cell in made.cells)
    assert first[0].text == "hello\n"
    assert second[0].data["text/plain"] == "42"
    assert third[0].data["image/png"].strip() == PICTURE
    assert fourth[0].text == "of the first cell\n" and fourth[1].ename == "ZeroDivisionError"
    assert left() == before and not stockade.default_runtime().registry.records()


@pytest.mark.parametrize("wall", ["landlock", "bubblewrap", "docker"])
def test_interrupt_and_restart(wall: str, data: Path) -> None:
    with opened(install(data, wall)) as one:
        assert one.run("kept = 1; open('file', 'w').write('still here')")[0] == "ok"
        threading.Timer(1, one.manager.interrupt_kernel).start()
        status, _ = one.run("import time\ntime.sleep(100)")
        assert status == "error"
        assert one.run("print(kept)") == ("ok", "1\n"), "an interrupt leaves the variables"
        one.run("import subprocess; subprocess.Popen(['sleep', '1234.5'])")
        one.manager.restart_kernel(now=True)
        one.client.wait_for_ready(timeout=60)
        look = "import glob\nprint('kept' in globals(), open('file').read(), "
        look += "sum(b'1234.5' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')))"
        assert one.run(look) == ("ok", "False still here 0\n")
        one.manager.restart_kernel()  # asked to end first
        one.client.wait_for_ready(timeout=60)
        assert one.run("print(1)") == ("ok", "1\n")


def test_nothing_of_this_machine_is_inside(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cret")
    monkeypatch.setenv("PASSED", "on")
    name = install(data, "landlock", "--env", "PASSED", "--env", "SAID=a $HOME")
    spec = json.loads((data / "kernels" / name / "kernel.json").read_text())
    assert spec["env"] == {"PASSED": "${PASSED}", "SAID": "a $$HOME"}, "no value that is passed on"
    with opened(name) as one:
        look = "import os\nprint(*(os.environ.get(n) for n in ('A_TOKEN', 'PASSED', 'SAID')))"
        assert one.run(look) == ("ok", "None on a $HOME\n")
        assert one.run(f"import os; print(os.path.exists({str(data)!r}))") == ("ok", "False\n")
        out = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 3)\n"
        assert one.run(out + "except OSError: print('closed')") == ("ok", "closed\n")


def test_no_port_of_this_machine_and_no_way_for_others(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert listening(), "they would be seen"
    name, before = install(data, "landlock"), listening()
    with opened(name) as one:
        assert not (listening() - before)
        assert one.manager.transport == "ipc"
        folder = os.path.dirname(one.manager.ip)
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert not os.path.exists(folder)


def test_a_mounted_folder_is_where_its_notebook_s_kernel_starts(data: Path, tmp_path: Path) -> None:
    work = tmp_path / "work" / "deep"
    work.mkdir(parents=True)
    name = install(data, "landlock", "--mount", f"{tmp_path / 'work'}:/project:rw")
    with opened(name, cwd=str(work)) as one:
        assert one.run("import os; print(os.getcwd())") == ("ok", "/project/deep\n")
        one.run("open('made', 'w').write('inside')")
    assert (work / "made").read_text() == "inside"


@pytest.mark.parametrize("wall", ["landlock", "docker"])
def test_memory_ends_the_kernel_and_says_so(
    wall: str, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = notebook("held = bytearray(600 * 1024 * 1024)")
    name = install(data, wall, "--memory", "256")
    before = left()
    with pytest.raises(DeadKernelError):
        nbclient.NotebookClient(made, kernel_name=name, startup_timeout=120, timeout=120).execute()
    assert "it used more memory than its sandbox may: 256 MiB" in caplog.text
    assert left() == before and not stockade.default_runtime().registry.records()


def test_a_kernel_that_ends_by_itself_is_dead_and_starts_again(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(install(data, "landlock")) as one:
        assert one.manager.is_alive()
        one.client.execute("import os; os._exit(3)")
        assert until(lambda: not one.manager.is_alive())
        assert "exit code 3" in caplog.text
        one.manager.restart_kernel()
        one.client.wait_for_ready(timeout=60)
        assert one.run("print(1)") == ("ok", "1\n")


def test_a_sandbox_that_is_lost_is_a_dead_kernel(data: Path) -> None:
    with opened(install(data, "landlock")) as one:
        [record] = stockade.default_runtime().registry.records()
        os.kill(record.sandbox.init_pid, signal.SIGKILL)  # type: ignore[union-attr]
        assert until(lambda: not one.manager.is_alive())
        one.manager.restart_kernel()
        one.client.wait_for_ready(timeout=60)
        assert one.run("print(1)") == ("ok", "1\n"), "in a sandbox of its own"


def test_a_start_that_is_cancelled_leaves_no_sandbox(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, before = install(data, "landlock", "--no-check"), left()
    begun, opened_one, really = threading.Event(), threading.Event(), kernel.opened

    def slowly(*given: Any) -> stockade.Session:
        begun.set()
        time.sleep(0.5)
        made = really(*given)
        opened_one.set()
        return made

    monkeypatch.setattr(kernel, "opened", slowly)

    async def cancelled() -> None:
        start = asyncio.ensure_future(AsyncKernelManager(kernel_name=name).start_kernel())
        while not begun.is_set() and not start.done():
            await asyncio.sleep(0.01)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(cancelled())
    assert opened_one.wait(60)
    assert left() == before and not stockade.default_runtime().registry.records()


def test_a_program_that_is_no_kernel_is_no_start(data: Path) -> None:
    name = install(data, "landlock", "--no-check", "--python", "/bin/false")
    before = left()
    manager = KernelManager(kernel_name=name)
    with pytest.raises(
        stockade.SandboxStartError, match="ended at once.*ipykernel.*can: .*landlock"
    ):
        manager.start_kernel()
    assert left() == before and not stockade.default_runtime().registry.records()


@pytest.mark.parametrize("kind", [stockade.CapacityError, stockade.PolicyRefusedError])
def test_what_no_wall_has_said_names_no_other_wall(
    kind: type[stockade.StockadeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise kind("no")

    monkeypatch.setattr(stockade, "open", refused)
    with pytest.raises(kind, match="^no$"):
        kernel.opened("local", {}, "jupyter")


def test_a_wall_that_cannot_says_which_can(data: Path) -> None:
    need("docker")
    name = install(data, "landlock")
    spec = data / "kernels" / name / "kernel.json"
    spec.write_text(spec.read_text().replace('"landlock"', '"landlock?read_only_fs=false"'))
    with pytest.raises(stockade.UnsupportedError, match="writable-root.*Here these can: .*docker"):
        KernelManager(kernel_name=name).start_kernel()
