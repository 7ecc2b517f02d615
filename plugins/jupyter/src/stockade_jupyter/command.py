"""``stockade jupyter``: kernels for Jupyter's lists."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import stockade
from stockade.cli.choosing import WallCommand, provider_option, wanted
from stockade.cli.console import say
from stockade.cli.examples import ending
from stockade.cli.work import Work, work_options
from stockade.errors import StockadeError
from stockade_jupyter.kernel import able, opened
from stockade_jupyter.provisioner import configuration

__all__ = ["jupyter"]

_CHECK = "import ipykernel; print(ipykernel.__version__)"


@click.group()
def jupyter() -> None:
    """Make kernels of Jupyter's that run behind a wall."""


@jupyter.command(
    cls=WallCommand,
    epilog=ending(
        "stockade jupyter install --user",
        "stockade jupyter install -p local --memory 2048 --name big --user",
    ),
)
@provider_option
@click.option("--name", help="The kernel's, in Jupyter.  [default: stockade- and the wall's]")
@click.option("--display-name", help="What notebooks show.  [default: Python 3 (the wall's)]")
@click.option(
    "--python",
    metavar="PROGRAM",
    help="Inside, with ipykernel.  [default: this Python where the wall shows this machine's "
    "programs, which its folders are then mounted for; else python3]",
)
@click.option("--user", is_flag=True, help="For you, not for this Python's environment.")
@click.option("--no-check", is_flag=True, help="Do not try whether it starts there.")
@work_options
def install(**options: Any) -> None:
    """Make a kernel whose notebooks run behind the wall that -p names."""
    try:
        say(_installed(str(wanted(options["provider"])), options))
    except (StockadeError, OSError) as error:
        say(f"stockade jupyter: {error}", err=True)
        sys.exit(2)


# A kernel has no command before or after which something could be copied, and lives as long as
# its notebook.
install.params = [one for one in install.params if one.name not in ("puts", "gets", "workdir")]
for _option in install.params:
    if isinstance(_option, click.Option) and _option.name == "lifetime":
        _option.help = "End the sandbox then, busy or not.  [default: none]"


def _installed(provider: str, options: dict[str, Any]) -> str:
    from jupyter_client.kernelspec import KernelSpecManager

    work = Work.of({**options, "puts": (), "gets": (), "workdir": None})
    fields = work.fields()
    program, shown = _program(provider, options["python"])
    mounts = [(one.source, one.target, one.read_only) for one in fields.pop("mounts", ())]
    mounts += [(folder, folder, True) for folder in shown if (folder, folder, True) not in mounts]
    if mounts:
        fields["mounts"] = mounts
    wall = re.sub(r"[^a-z0-9]+", "-", provider.partition("?")[0].partition(":")[0].lower())
    name = options["name"] or f"stockade-{wall.strip('-')}"
    if not options["no_check"]:
        _check(provider, configuration(fields), program, work.env)
    spec = {
        "argv": [program, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": options["display_name"] or f"Python 3 ({wall.strip('-')})",
        "language": "python",
        "interrupt_mode": "signal",
        "env": _variables(options["env"]),
        "metadata": {
            "kernel_provisioner": {
                "provisioner_name": "stockade",
                "config": {"provider": provider, "fields": fields},
            }
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
        place = {"user": True} if options["user"] else {"prefix": sys.prefix}
        made = KernelSpecManager().install_kernel_spec(folder, kernel_name=name, **place)
    return f"{name} is installed in {made}; remove it with: jupyter kernelspec remove {name}"


def _program(provider: str, given: str | None) -> tuple[str, Sequence[str]]:
    """What starts the kernel inside, and the folders that have to be shown for it."""
    walls = [part.strip().partition("?")[0].partition(":")[0] for part in provider.split("|")]
    images = any(name != "local" and stockade.provider(name).wall.target_is_name for name in walls)
    if given or images:
        return given or "python3", ()
    prefixes = dict.fromkeys(map(os.path.realpath, (sys.prefix, sys.base_prefix)))
    # What the system installs is there already.
    return sys.executable, [one for one in prefixes if not f"{one}/".startswith("/usr/")]


def _variables(pairs: Sequence[str]) -> dict[str, str]:
    """For the kernelspec: what is passed on is looked up at the start, and not written here."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        found[name] = value.replace("$", "$$") if equals else f"${{{name}}}"
    return found


def _check(provider: str, fields: dict[str, Any], program: str, env: Mapping[str, str]) -> None:
    """Raises StockadeError where such a kernel could not start."""
    with opened(provider, fields, "jupyter") as session:
        tried = session.run([program, "-c", _CHECK], env=env, timeout=120)
        if not tried.success:
            said = tried.stderr.strip().rpartition("\n")[2]
            raise stockade.SandboxStartError(
                f"{program} starts no kernel behind {session.provider.name}: "
                f"{said or f'exit code {tried.exit_code}'}. Name another with --python, or an "
                f"image that has ipykernel, or show it: --mount. {able(fields)}",
                retryable=False,
            )
