"""What a sample's sandboxes are to be: from what inspect hands over to provider strings and fields.

inspect hands over None, a model of this provider's or of inspect's own for compose files, or a
file's path; a text of any other kind it has made a path of, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.util import ComposeConfig
from pydantic import BaseModel, field_validator

from stockade.cli import project
from stockade.errors import StockadeError
from stockade_inspect import compose
from stockade_inspect.wanted import Build, Wanted, names_in, only

__all__ = ["CONFIG_FILES", "StockadeConfig", "wanted"]

_COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
#: Looked for beside a task, the first one counts.
CONFIG_FILES = ("stockade.toml", *_COMPOSE, "Dockerfile")


class StockadeConfig(BaseModel, frozen=True, extra="forbid"):
    """A configuration in Python: ``sandbox=SandboxEnvironmentSpec("stockade", StockadeConfig(…))``.

    ``provider`` is what ``stockade.open`` takes, with every limit in it; empty stands for
    STOCKADE_PROVIDER, else ``local``. It is written to inspect's log: put no secret into it.
    """

    provider: str = ""

    @field_validator("provider")
    @classmethod
    def _understood(cls, text: str) -> str:
        try:
            names_in(text)
        except StockadeError as error:
            raise ValueError(str(error)) from None
        return text


def wanted(
    config: BaseModel | str | None, wall: str, metadata: Mapping[str, Any]
) -> tuple[Wanted, ...]:
    """The sandboxes of a sample, the default one first. ``wall``: of the type, empty for
    ``stockade``. Raises PrerequisiteError, which inspect shows without a traceback."""
    try:
        return _wanted(config, wall, metadata)
    except (StockadeError, ValueError, OSError) as error:
        raise PrerequisiteError(f"stockade: {error}") from error


def _wanted(
    config: BaseModel | str | None, wall: str, metadata: Mapping[str, Any]
) -> tuple[Wanted, ...]:
    if config is None:
        return (Wanted(provider=wall),)
    if isinstance(config, StockadeConfig):
        return (Wanted(provider=only(config.provider, wall)),)
    if isinstance(config, ComposeConfig):
        return compose.services(config, wall, os.getcwd())
    if isinstance(config, str):
        return _of_file(Path(config), wall, metadata)
    raise ValueError(
        f"a {type(config).__name__} is no configuration of stockade's; give a StockadeConfig, a "
        "ComposeConfig or a file."
    )


def _of_file(path: Path, wall: str, metadata: Mapping[str, Any]) -> tuple[Wanted, ...]:
    if not path.is_file():
        raise ValueError(
            f"there is no file {str(path)!r}. inspect takes a text for a file's path; for a "
            "provider string write SandboxEnvironmentSpec('stockade', StockadeConfig(provider="
            "'…')), or the line provider = '…' into a stockade.toml beside the task."
        )
    if path.suffix in (".yaml", ".yml"):
        return compose.services(compose.read(path, metadata), wall, str(path.parent), str(path))
    if path.suffix == ".toml":
        found = project.named_by(path)
        if found is None:
            raise ValueError(f"{path} names no provider; write the line: provider = 'docker:…'")
        return (Wanted(provider=only(str(found), wall)),)
    if path.stem == "Dockerfile" or path.suffix == ".Dockerfile":
        return (Wanted(provider=wall, build=Build(str(path.parent), path.name)),)
    raise ValueError(
        f"{path} is neither a compose file (*.yaml), a Dockerfile nor a stockade.toml (*.toml)."
    )
