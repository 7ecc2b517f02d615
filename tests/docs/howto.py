"""Runs a how-to page as its reader does: top to bottom, in one folder, at one terminal.

What a block is says how it is run:

- ``title="NAME"``: the reader saves it as that file.
- ``python``: run by the Python of the environment.
- ``console``: the lines behind ``$`` are typed, those behind ``>`` continue them. All others are
  what the terminal then shows, errors included; ``…`` stands for anything within a line.
- ``text`` after a ``python`` block: what that prints, in the same way.
- ``sh``: installs from the checkout. Run in a fresh environment alone.

Every other block has a line before it, ``<!-- no-run: reason -->``. A page, or the rest of it, that
needs what the tests do not bring says so: ``<!-- needs: docker, e2b -->`` (walls and packages).
``<!-- needs: fresh -->`` has a page run in a fresh environment alone, since it downloads packages.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
_BLOCK = re.compile(
    r"^(?:<!-- no-run: (?P<why>[^>]+) -->\n)?"
    r'^```(?P<kind>\w*)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
_NEEDS = re.compile(r"^<!-- needs: (.+) -->$", re.MULTILINE)


@attrs.frozen
class Block:
    """One block of a page: what it holds, and what the terminal should show of it."""

    number: int
    kind: str
    file: str
    text: str
    why: str
    shows: str = ""

    @property
    def runs(self) -> bool:
        """Whether it is run or saved at all."""
        return not self.why

    def script(self, folder: Path, *, fresh: bool) -> str:
        """The lines of bash that do what the reader does with it."""
        if self.file:
            kept = shlex.quote(str(folder / str(self.number)))
            return f"mkdir -p {shlex.quote(str(Path(self.file).parent))}; cp {kept} {self.file}"
        if self.kind == "sh":
            return f'here=$PWD; cd "$CHECKOUT"; {self.text}\ncd "$here"' if fresh else ":"
        if self.kind == "python":
            return f'python3 -W error -c "$(cat {folder / str(self.number)})"'
        return "\n".join(typed(self.text))


def needs(page: Path) -> list[str]:
    """The walls and packages that a page says it needs."""
    return [name.strip() for line in _NEEDS.findall(page.read_text()) for name in line.split(",")]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    found: list[Block] = []
    for number, match in enumerate(_BLOCK.finditer(page.read_text()), 1):
        block = Block(number, match["kind"], match["file"] or "", match["text"], match["why"] or "")
        if block.kind == "text" and block.runs and found and found[-1].kind == "python":
            found[-1] = attrs.evolve(found[-1], shows=block.text)
            continue
        found.append(
            attrs.evolve(block, shows=shown(block.text) if block.kind == "console" else "")
        )
    return found


def typed(text: str) -> list[str]:
    """The lines of a console block that the reader types."""
    return [line[2:] for line in text.splitlines() if line.startswith(("$ ", "> "))]


def shown(text: str) -> str:
    """The lines of a console block that the terminal shows."""
    lines = [line for line in text.splitlines() if not line.startswith(("$ ", "> "))]
    return "".join(f"{line}\n" for line in lines)


def same(expected: str, seen: str) -> bool:
    """Whether the terminal showed what the page says; ``…`` is anything within a line."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("…"))
    return re.fullmatch(pattern, seen.rstrip()) is not None


def run(page: Path, folder: Path, env: dict[str, str], *, fresh: bool) -> list[str]:
    """Does what the page says; what differs from it, a text a block."""
    kept, home = folder / "blocks", folder / "reader"
    for one in (kept, home):
        one.mkdir()
    lines = ["trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT"]
    running = [block for block in blocks(page) if block.runs]
    for block in running:
        (kept / str(block.number)).write_text(block.text)
        lines.append(f"exec > {kept}/{block.number}.shown 2>&1")
        lines.append(block.script(kept, fresh=fresh))
        lines.append(f"echo $? > {kept}/{block.number}.code")
    (kept / "script").write_text("\n".join(lines))
    process = subprocess.Popen(
        ["bash", str(kept / "script")],
        cwd=home,
        env=env,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        process.wait(timeout=600 if fresh else 400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return [text for block in running if (text := _difference(block, kept, fresh=fresh))]


def _difference(block: Block, kept: Path, *, fresh: bool) -> str:
    """What a block did that the page does not say; empty where it did as it says."""
    if block.file:
        return ""
    seen_at, code_at = kept / f"{block.number}.shown", kept / f"{block.number}.code"
    if not code_at.exists():
        return f"block {block.number} did not end"
    seen, code = seen_at.read_text(), int(code_at.read_text())
    if block.kind != "console" and code:
        return f"block {block.number} failed with {code}:\n{seen}"
    if block.kind == "sh" or same(block.shows, seen):
        return ""
    return f"block {block.number} should show:\n{block.shows}\nand showed:\n{seen}"


def layered(folder: Path) -> Path:
    """An environment with all that this one has; what is installed into it is its own alone.

    Its ``bin`` is the answer. Nothing is downloaded for it.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = next((folder / "lib").glob("python*/site-packages"))
    beneath = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in beneath]
    (own / "beneath.pth").write_text("\n".join(lines) + "\n")
    for script in Path(sys.executable).parent.iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        head, _, rest = script.read_bytes().partition(b"\n")
        if head.startswith(b"#!") and b"python" in head:
            copy = folder / "bin" / script.name
            copy.write_bytes(f"#!{folder}/bin/python\n".encode() + rest)
            copy.chmod(0o755)
    return folder / "bin"
