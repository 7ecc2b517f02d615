"""Compose files, as far as a sandbox of stockade's can hold what they say; all else is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from inspect_ai.util import ComposeBuild, ComposeConfig, ComposeService
from pydantic import ValidationError

from stockade_inspect.wanted import Build, Wanted, only

__all__ = ["read", "services", "variables"]

#: What a service may say; ``x-…`` may stand anywhere.
_HELD = (
    *("image", "build", "mem_limit", "cpus", "pids_limit", "deploy", "environment"),
    *("working_dir", "network_mode", "user", "read_only", "x_default"),
    *("command", "entrypoint", "init", "privileged", "cap_drop"),
)
#: What keeps a container up that has nothing to do; a sandbox needs no such program.
_IDLE = ("tail -f /dev/null", "sleep infinity", "sleep inf")
_CLOSED = (
    "{} says no network_mode: docker would open the network, stockade keeps it closed. Write "
    "network_mode: none, or bridge to open it."
)
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<braced>\w+)\}|(?P<plain>[A-Za-z_]\w*)|\{(?P<odd>[^}]*)\})")
_OURS = "SAMPLE_METADATA_"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bkmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def read(path: Path, metadata: Mapping[str, Any]) -> ComposeConfig:
    """The file, with ``${SAMPLE_METADATA_…}`` filled in. Raises ValueError, OSError."""
    known = variables(path.read_text(encoding="utf-8"), metadata)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from None
    if not isinstance(raw, dict) or not raw.get("services"):
        raise ValueError(f"{path} has no services.")
    try:
        return ComposeConfig.model_validate(_filled(raw, known, path))
    except ValidationError as error:  # its own words hold what was read: variables' values, too
        wrong = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise ValueError(
            f"{path} is no compose file that inspect reads: {'; '.join(wrong)}"
        ) from None


def variables(text: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Of a sample's metadata those that the text asks for, and those that inspect has set."""
    named = {_OURS + key.replace(" ", "_").upper(): str(value) for key, value in metadata.items()}
    given = {key: value for key, value in os.environ.items() if key.startswith(_OURS)}
    return {key: value for key, value in {**given, **named}.items() if key in text}


def _filled(value: Any, known: Mapping[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, known, path) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, known, path) for one in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match["braced"] or match["plain"] or match["odd"]
        if name not in known:
            raise ValueError(
                f"{path} asks for ${{{name}}}: only a sample's metadata, as {_OURS}…, are filled "
                "in, no variables of this machine; write the value, and $$ for a dollar sign."
            )
        return known[name]

    return _VARIABLE.sub(fill, value)


def services(
    config: ComposeConfig, wall: str, folder: str, where: str = "the compose configuration"
) -> tuple[Wanted, ...]:
    """Every service as a sandbox of its own, the default one first. Raises ValueError."""
    shared = [name for name in ("volumes", "networks") if getattr(config, name)]
    if shared:
        raise _refused(where, shared)
    walls = config.extensions.get("x-stockade", "")
    default = _default(config, where)
    order = sorted(config.services, key=lambda name: name != default)
    return tuple(
        _service(name, config.services[name], wall, walls, folder, f"{where}, service {name!r}")
        for name in order
    )


def _default(config: ComposeConfig, where: str) -> str:
    marked = [name for name, one in config.services.items() if one.x_default]
    if len(marked) > 1:
        raise ValueError(f"{where} marks {' and '.join(marked)} with x-default; mark one.")
    if not marked and len(config.services) > 1 and "default" not in config.services:
        raise ValueError(f"{where}: name a service 'default', or mark one with x-default: true.")
    return (
        marked or [name for name in config.services if name == "default"] or [*config.services]
    )[0]


def _refused(where: str, names: list[str], why: str = "") -> ValueError:
    return ValueError(
        f"{where}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} not held by stockade's "
        f"sandboxes{why}. Remove it, or keep inspect's own docker sandbox for this task. Held are: "
        f"{', '.join(name.replace('x_default', 'x-default') for name in _HELD)}, x-stockade."
    )


def _service(
    name: str, service: ComposeService, wall: str, walls: Any, folder: str, where: str
) -> Wanted:
    stated = {field for field in service.model_fields_set if field in type(service).model_fields}
    others = sorted(field for field in stated - set(_HELD) if getattr(service, field) is not None)
    if others:
        raise _refused(where, others)
    for field in ("command", "entrypoint"):
        said = getattr(service, field) or ""
        if said and " ".join([said] if isinstance(said, str) else said) not in _IDLE:
            raise _refused(where, [field], " unless it waits for ever (tail -f /dev/null)")
    if service.privileged:
        raise _refused(where, ["privileged"])
    walls = service.extensions.get("x-stockade", walls)
    if not isinstance(walls, str) or (":" in walls.partition("?")[0] and service.image):
        raise ValueError(f"{where}: x-stockade names walls, such as 'gvisor | docker'.")
    mode = service.network_mode
    if mode not in (None, "none", "bridge"):
        raise _refused(where, [f"network_mode: {mode}"])
    notes = [_CLOSED.format(where)] if mode is None and "network_" not in walls else []
    build = service.build and _build(service.build, folder, where)
    image = None if build else service.image
    fields = _limits(service, where)
    if mode is not None:
        fields["network_enabled"] = mode == "bridge"
    return Wanted(
        name=name,
        provider=only(walls, wall),
        image=image,
        build=build or None,
        fields=fields,
        notes=tuple(notes),
    )


def _build(build: ComposeBuild | str, folder: str, where: str) -> Build:
    if isinstance(build, str):
        return Build(os.path.join(folder, build), "Dockerfile")
    if build.no_cache or build.pull:
        raise _refused(where, ["build.no_cache and build.pull"])
    return Build(os.path.join(folder, build.context or "."), build.dockerfile or "Dockerfile")


def _limits(service: ComposeService, where: str) -> dict[str, Any]:
    """Fields of the configuration; what the service does not state stays as the string has it."""
    memory, cpus, found = service.mem_limit, service.cpus, dict[str, Any]()
    resources = service.deploy and service.deploy.resources
    if resources and resources.reservations:
        raise _refused(where, ["deploy.resources.reservations"])
    if resources and resources.limits:
        memory = memory or resources.limits.memory
        cpus = cpus or (float(resources.limits.cpus) if resources.limits.cpus else None)
    if memory is not None:
        found["memory_mb"] = _mebibytes(memory, where)
    if cpus is not None:
        found["cpu_limit"] = cpus
    if service.pids_limit is not None:
        found["max_processes"] = int(service.pids_limit)
    if service.environment is not None:
        found["env_vars"] = _environment(service.environment, where)
    if service.working_dir is not None:
        found["working_dir"] = service.working_dir
    if service.user is not None:
        found["user"] = service.user
    if service.read_only is not None:
        found["read_only_fs"] = service.read_only
    return found


def _mebibytes(text: str, where: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{where}: {text!r} is no size; write it as 512m or 2g.")
    return max(1, int(float(match[1]) * _UNITS[match[2].lower()]) >> 20)


def _environment(given: list[str] | dict[str, Any], where: str) -> dict[str, str]:
    if isinstance(given, list):
        given = {
            one.partition("=")[0]: one.partition("=")[2] if "=" in one else None for one in given
        }
    pairs = given
    empty = [name for name, value in pairs.items() if value is None]
    if empty:
        raise ValueError(
            f"{where}: environment {empty[0]} has no value, which would bring one of this machine "
            "inside; write the value."
        )
    return {name: str(value) for name, value in pairs.items()}
