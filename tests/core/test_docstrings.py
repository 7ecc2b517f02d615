"""What is public, and that every public name says what it means.

Public are the modules of ``PUBLIC``: what their ``__all__`` names; where that is a module, what
its own ``__all__`` names; of a class its members without an underscore. Functions, methods,
properties and classes have docstrings; attributes and constants have a comment that begins with
``#:``, or stand as ``name`` in their class's docstring. A package of core that is not in
``PUBLIC`` exports nothing, and its docstring says so.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CORE = Path(__file__).parents[2] / "core" / "src" / "stockade"
#: What callers use, what authors of plug-ins implement, and what walls may build on.
PUBLIC = (
    "stockade",
    "stockade.aio",
    "stockade.capabilities",
    "stockade.cli",
    "stockade.config",
    "stockade.errors",
    "stockade.events",
    "stockade.file_backend",
    "stockade.files",
    "stockade.lowering",
    "stockade.plugin",
    "stockade.results",
    "stockade.session",
    "stockade.system",
    "stockade.testing",
    "stockade.toolkit",
    "stockade.trait",
    "stockade.values",
    "stockade.wall",
)
PRIVATE = "Private to core"


# -- what is public -----------------------------------------------------------------------


def exported(module: str) -> dict[str, Any]:
    """All that a public module exports, by dotted names."""
    found: dict[str, Any] = {}
    for name in importlib.import_module(module).__all__:
        if name.startswith("_"):
            continue
        value = named(module, name)
        found[f"{module}.{name}"] = value
        if isinstance(value, types.ModuleType):
            found |= exported(value.__name__)
    return found


def named(module: str, name: str) -> Any:
    """What a module's ``__all__`` names: an attribute of it, or a module in it."""
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


@functools.cache
def everything() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in PUBLIC:
        found |= {name: importlib.import_module(name)} | exported(name)
    return found


def packages() -> list[str]:
    folders = (path.parent for path in CORE.rglob("__init__.py"))
    return sorted(".".join(path.relative_to(CORE.parent).parts) for path in folders)


@pytest.mark.parametrize("package", packages())
def test_a_package_exports_what_is_public_or_says_that_it_is_private(package: str) -> None:
    tree = source(package)[0]
    exports = "__all__" in {
        target.id
        for node in tree.body
        for target in getattr(node, "targets", [])
        if isinstance(target, ast.Name)
    }
    private = PRIVATE in (ast.get_docstring(tree) or "")
    public = package in everything()
    assert (exports, private) == (public, not public)


def test_public_names_are_where_they_are_said_to_be() -> None:
    for name, value in everything().items():
        module, _, short = name.rpartition(".")
        if module:
            assert named(module, short) is value


def test_nothing_is_imported_for_the_sake_of_being_exported() -> None:
    """``import stockade`` loads the words alone."""
    code = "import stockade, sys; print(*(name for name in sys.modules if 'stockade.' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parts = {name.split(".")[1] for name in done.stdout.split()}
    assert parts <= {"config", "errors", "results", "trait", "values"}


# -- that it says what it means --------------------------------------------------------------


@functools.cache
def source(module: str) -> tuple[ast.Module, list[str]]:
    text = Path(inspect.getfile(importlib.import_module(module))).read_text()
    return ast.parse(text), text.splitlines()


def assigned(module: str, body: list[ast.stmt]) -> dict[str, bool]:
    """Names that are assigned in this body, and whether a ``#:`` beside or above says what each
    is."""
    lines = source(module)[1]
    found: dict[str, bool] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign):
            targets: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        said = lines[first - 1].lstrip().startswith("#:") or any(
            "  #: " in line for line in lines[first:last]
        )
        found |= {target.id: said for target in targets if isinstance(target, ast.Name)}
    return found


def body_of(cls: type) -> list[ast.stmt]:
    for node in ast.walk(source(cls.__module__)[0]):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            return node.body
    return []


def function_of(value: object) -> Any:
    """The function behind a method or a property; None where it is neither."""
    if isinstance(value, functools.cached_property):
        return value.func
    function = getattr(value, "__func__", getattr(value, "fget", value))
    return function if inspect.isfunction(function) else None


def says(cls: type, member: str) -> bool:
    """Whether this class says what its member means."""
    function = function_of(vars(cls).get(member))
    if function is not None:
        return bool(function.__doc__)
    own = inspect.cleandoc(cls.__doc__ or "")
    return assigned(cls.__module__, body_of(cls)).get(member, False) or f"``{member}``" in own


def silent_members(cls: type) -> Iterator[str]:
    """Public members of which neither the class nor one that it is derived from says anything."""
    known = [base for base in cls.__mro__ if base.__module__.startswith("stockade")]
    functions = {name for name, value in vars(cls).items() if function_of(value) is not None}
    for member in sorted(functions | set(assigned(cls.__module__, body_of(cls)))):
        if not member.startswith("_") and not any(says(base, member) for base in known):
            yield member


def is_silent(name: str, value: object) -> bool:
    """Whether nothing says what a public name means."""
    module, _, short = name.rpartition(".")
    if isinstance(value, type):
        ours = value.__module__.startswith("stockade")
        own = [node for node in body_of(value)[:1] if isinstance(node, ast.Expr)] if ours else []
        return ours and not own
    if isinstance(value, types.ModuleType) or inspect.isroutine(value):
        return not value.__doc__
    return not constant_says(module, short)


def constant_says(module: str, name: str) -> bool:
    """Whether a constant is explained where it is assigned: here, or where it comes from."""
    tree, _ = source(module)
    if assigned(module, tree.body).get(name):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return constant_says(node.module, alias.name)
    return False


def test_every_public_name_says_what_it_means() -> None:
    silent = [name for name, value in everything().items() if is_silent(name, value)]
    for name, value in everything().items():
        if isinstance(value, type) and value.__module__.startswith("stockade"):
            silent += [f"{name}.{member}" for member in silent_members(value)]
    assert silent == []


class _Sample:
    silent: int
    #: Said.
    above: int
    beside: int  #: said

    def quiet(self) -> None: ...

    def loud(self) -> None:
        """Said."""


def test_a_silent_name_would_be_found() -> None:
    members = ("silent", "above", "beside", "quiet", "loud")
    assert [says(_Sample, name) for name in members] == [False, True, True, False, True]
