"""Every command of the command line with its own help, as it shows at 80 columns."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from made.declared import ROOT, show_checkout
from stockade.system.own_files import parse_toml

if TYPE_CHECKING:
    import click

_LOG = logging.getLogger("mkdocs.plugins.reference")
_HEAD = """\
# The command line

Each command says this of itself with `--help`. Those of plug-ins are here if the plug-in installs
them: `serve` comes with stockade-server, `jupyter` with stockade-jupyter, `run --record` with
stockade-replay.

## Completion

The shell completes commands, options, walls and sessions. For bash (4.4 or newer), put this line
into `~/.bashrc`:

```sh
eval "$(_STOCKADE_COMPLETE=bash_source stockade)"
```

For zsh, write `zsh_source` in `~/.zshrc`. For fish, put
`_STOCKADE_COMPLETE=fish_source stockade | source` into `~/.config/fish/completions/stockade.fish`.

## The manual

`stockade man` prints the whole manual, with the commands of the plug-ins that are installed. Read
it at once, or keep it where `man` finds it:

```sh
stockade man | man -l -
mkdir -p ~/.local/share/man/man1 && stockade man > ~/.local/share/man/man1/stockade.1
```
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for command, context in commands():
        help_text = command.get_help(context).rstrip()
        lines += [f"## {context.command_path}", "", "```text", help_text, "```", ""]
    return "\n".join(lines)


def commands() -> list[tuple[click.Command, click.Context]]:
    """All commands of this checkout, whatever is installed."""
    import click

    from stockade.cli import roff
    from stockade.cli.app import OwnCommands, app

    if not app._full:
        app._full = True  # the commands of this checkout alone
        OwnCommands().stockade_add_commands(app)
        show_checkout()
        for module, path in of_plugins():
            if "def stockade_add_commands" in path.read_text():  # else an observer
                _add(module, app)
    settings = {**app.context_settings, "terminal_width": 80, "max_content_width": 80}
    return list(roff.commands(app, click.Context(app, info_name="stockade", **settings)))


def _add(module: str, app: click.Group) -> None:
    """A plug-in's commands and options; a warning, which is an error for the site, without them."""
    try:
        importlib.import_module(module).stockade_add_commands(app)
    except ModuleNotFoundError as error:
        _LOG.warning("%s is missing, so the commands of %s are, too", error.name, module)


def of_plugins() -> list[tuple[str, Path]]:
    """The modules that distributions of this checkout register beside walls, with their files."""
    found: list[tuple[str, Path]] = []
    for path in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        project = parse_toml(path, path.read_bytes(), "see git")["project"]
        modules = project.get("entry-points", {}).get("stockade.plugins", {}).values()
        source = path.parent / "src"
        found += [(module, source / f"{module.replace('.', '/')}.py") for module in modules]
    return found
