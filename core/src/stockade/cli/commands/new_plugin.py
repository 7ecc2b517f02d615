"""``stockade new-plugin``: a distribution with a wall of one's own, ready to be built on."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

import click

from stockade.cli.console import say
from stockade.errors import ConfigError, StockadeError

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["check_name", "new_plugin", "rendered", "write_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_LONGEST = 24
#: The wall's own word, as a class of it is called.
_TEMPLATE = re.compile(r"\{\{(name|module|Class)\}\}")


def check_name(name: str) -> str:
    """The name of a plug-in, which becomes entry point, distribution and module.

    Raises ConfigError that says what is wrong and offers a name that is right.
    """
    if _NAME.fullmatch(name) and not name.startswith("stockade-") and len(name) <= _LONGEST:
        return name
    mended = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
    mended = mended.removeprefix("stockade-")[:_LONGEST].strip("-")
    raise ConfigError(
        f"{name!r} is not a plug-in's name: it begins with a letter and holds small letters, "
        f"digits and single hyphens, {_LONGEST} at most, without 'stockade-', which the "
        "distribution's name gets in any case"
        + (f"; try {mended!r}." if _NAME.fullmatch(mended) else "; try 'mywall'.")
    )


def rendered(name: str) -> Iterator[tuple[str, str]]:
    """Every file of the distribution, as (path inside it, text)."""
    module = name.replace("-", "_")
    words = {
        "name": name,
        "module": module,
        "Class": "".join(part.capitalize() for part in name.split("-")),
    }
    for place, text in _walk(files("stockade.cli.templates").joinpath("plugin"), ""):
        path = place.removesuffix(".in").replace("src/package/", f"src/stockade_{module}/")
        yield "." * (path == "gitignore") + path, _TEMPLATE.sub(lambda match: words[match[1]], text)


def _walk(folder: Traversable, above: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry, f"{above}{entry.name}/")
        else:
            yield above + entry.name, entry.read_text(encoding="utf-8")


def write_plugin(name: str, into: str) -> tuple[str, list[str]]:
    """Write ``stockade-NAME`` in the folder ``into``: its path, and the files in it.

    Nothing that is there is touched, and nothing is left when it fails. Raises
    ConfigError for the name, FileExistsError, OSError.
    """
    check_name(name)
    folder = os.path.join(into, f"stockade-{name}")
    os.mkdir(folder)  # claims it: one that is there, empty or not, is somebody's
    written = []
    try:
        for path, text in rendered(name):
            whole = os.path.join(folder, path)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            written.append(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, written


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--into",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(exists=True, file_okay=False),
    help="The folder to write it in.",
)
def new_plugin(name: str, into: str) -> None:
    """Write a distribution with a wall of your own, to build on.

    stockade-NAME is complete: entry point, wall, tests (the conformance suite among them), tox,
    README. Its wall runs plain subprocesses. It isolates nothing, and says so: what it shall
    hold is yours to build. Nothing is ever overwritten. At the end the command prints how to
    install, run and test it.
    """
    try:
        folder, written = write_plugin(name, into)
    except FileExistsError:
        _fail(f"stockade-{name} is there already in {into}; give another name, or --into DIR.")
    except (StockadeError, OSError) as error:
        _fail(str(error))
    for path in written:
        say(f"  {os.path.join(folder, path)}")
    for line in _notes(name):
        say(f"note: {line}")
    project = os.path.join(".", folder) if not os.path.isabs(folder) else folder
    say(
        f"\nWritten. It isolates nothing yet; the wall is src/stockade_{name.replace('-', '_')}/"
        f"wall.py. Next:\n\n"
        f"  pip install -e '{os.path.normpath(project)}[test]'\n"
        f"  stockade run -p {name} -- echo hi\n"
        f"  pytest {os.path.normpath(project)}\n"
    )


def _notes(name: str) -> Iterator[str]:
    """What may become a nuisance later: the name is somebody's."""
    from stockade.selection._discovery import PUBLISHED, installed

    if name in PUBLISHED:
        yield f"the project itself publishes a wall {name!r} ({PUBLISHED[name]})."
    others = [plugin for plugin in installed() if plugin.name == name]
    for other in others:
        yield (
            f"{other.distribution} {other.version}, which is installed here, registers {name!r} "
            "too; with both installed neither is used."
        )


def _fail(message: str) -> None:
    say(f"stockade: {message}", err=True)
    sys.exit(2)
