"""How to install a distribution of this project: one function makes what messages say of it."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["DISTRIBUTIONS", "RELEASED", "install"]

#: Whether the distributions are on the index. Until then a name there may be anybody's, so
#: messages lead to the folders of a checkout.
RELEASED = False

_LOCAL = ("stockade-bubblewrap", "stockade-landlock")
#: What this project makes, each with the distributions of the project that it needs.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "stockade": (),
    "stockade-supervisor": (),
    "stockade-bubblewrap": ("stockade", "stockade-supervisor"),
    "stockade-chaos": ("stockade",),
    "stockade-deepagents": ("stockade", *_LOCAL),
    "stockade-docker": ("stockade", "stockade-supervisor"),
    "stockade-e2b": ("stockade", "stockade-supervisor"),
    "stockade-gvisor": ("stockade", "stockade-docker"),
    "stockade-harbor": ("stockade", "stockade-docker", "stockade-gvisor"),
    "stockade-hyperlight": ("stockade",),
    "stockade-inspect": ("stockade", *_LOCAL),
    "stockade-jupyter": ("stockade", *_LOCAL),
    "stockade-kata": ("stockade", "stockade-docker"),
    "stockade-kubernetes": ("stockade", "stockade-supervisor"),
    "stockade-landlock": ("stockade", "stockade-supervisor"),
    "stockade-mcp": ("stockade", *_LOCAL),
    "stockade-microsandbox": ("stockade", "stockade-supervisor"),
    "stockade-openai-agents": ("stockade", *_LOCAL),
    "stockade-otel": ("stockade",),
    "stockade-replay": ("stockade",),
    "stockade-secrets": ("stockade",),
    "stockade-server": ("stockade",),
    "stockade-smolagents": ("stockade", *_LOCAL),
    "pytest-stockade": ("stockade",),
}
_FOLDERS = {"stockade": "./core", "stockade-supervisor": "./supervisor"}


def install(distribution: str, extra: str = "", *, upgrade: bool = False) -> str:
    """The command that installs a distribution, with one of its extras where one is named.

    Until the project is released, one of the project's is installed from a checkout, together
    with those that it needs and that are on no index either; core is there already.

    >>> install("stockade-gvisor")
    'pip install ./supervisor ./plugins/docker ./plugins/gvisor (in a checkout of stockade)'
    >>> install("stockade", "cli")
    "pip install './core[cli]' (in a checkout of stockade)"
    >>> install("stockade-elsewhere", upgrade=True)
    'pip install --upgrade stockade-elsewhere'
    """
    command = "pip install --upgrade" if upgrade else "pip install"
    if RELEASED or distribution not in DISTRIBUTIONS:
        return f"{command} {_with(distribution, extra)}"
    needed = [_folder(name) for name in dict.fromkeys(_needed(distribution))]
    wanted = _with(_folder(distribution), extra)
    return f"{' '.join([command, *needed, wanted])} (in a checkout of stockade)"


def _needed(distribution: str) -> Iterator[str]:
    """What has to be installed before it, core left out, since core says so."""
    for name in DISTRIBUTIONS[distribution]:
        if name != "stockade":
            yield from _needed(name)
            yield name


def _folder(distribution: str) -> str:
    name = distribution.removeprefix("stockade-").removesuffix("-stockade")
    return _FOLDERS.get(distribution, f"./plugins/{name}")


def _with(what: str, extra: str) -> str:
    return f"'{what}[{extra}]'" if extra else what
