"""Makes the README's picture of a terminal from a real run: ``python docs/hooks/terminal.py``.

The commands run for real, in an empty folder, with the ``stockade`` beside this Python. What they
print becomes docs/terminal.svg, which has its own background, so it is legible on light and dark
pages. It loads no font and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "terminal.svg"
COMMANDS = (
    "stockade run -- python3 -c 'print(6*7)'",
    "stockade run -- cat /etc/shadow",
    "stockade run -- curl -sS https://example.com",
    "stockade run --timeout 1 -- sleep 60",
    "stockade run --memory 64 -- python3 -c 'x = bytearray(1 << 30)'",
)

_CHAR, _LINE, _EDGE = 7.83, 19, 14  # pixels: of a character, of a line, around the text
_STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#e6edf3;white-space:pre}.p{fill:#7ee787}.c{fill:#fff;font-weight:bold}.s{fill:#ffa657}"
)


def outputs(commands: Sequence[str] = COMMANDS) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it printed on both streams."""
    env = {
        **{name: value for name, value in os.environ.items() if name != "STOCKADE_PROVIDER"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "80",
        "LC_ALL": "C.UTF-8",
    }
    with tempfile.TemporaryDirectory(prefix="stockade-picture-") as folder:
        for command in commands:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            yield command, done.stdout.splitlines()


def lines(ran: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    """The lines of the picture, as marked text."""
    for command, printed in ran:
        yield f'<tspan class="p">$ </tspan><tspan class="c">{escape(command)}</tspan>'
        for line in printed:
            kind = ' class="s"' if line.startswith("stockade:") else ""
            yield f"<tspan{kind}>{escape(line)}</tspan>"


def picture(ran: Sequence[tuple[str, list[str]]]) -> str:
    """The picture, in SVG."""
    shown = list(lines(ran))
    widest = max(len(line) for command, printed in ran for line in (f"$ {command}", *printed))
    width, height = round(widest * _CHAR) + 2 * _EDGE, len(shown) * _LINE + 2 * _EDGE
    rows = "\n".join(
        f'<text x="{_EDGE}" y="{_EDGE + at * _LINE + 13}">{line}</text>'
        for at, line in enumerate(shown)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>Five commands behind stockade's wall</title>\n<style>{_STYLE}</style>\n"
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="#0d1117" '
        f'stroke="#6e7681"/>\n{rows}\n</svg>\n'
    )


def main(into: Path = PICTURE) -> None:
    """Run the commands and write the picture."""
    into.write_text(picture(list(outputs())))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
