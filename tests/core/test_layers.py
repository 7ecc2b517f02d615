"""Imports go one way only: the layers of docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import stockade

CORE = Path(stockade.__file__).parent
LAYERS = [
    "errors results options config capabilities events ids workers templates "
    "owner traces deadlines settings retries frozen shown children marks inside program cold "
    "strangers place forks trees",
    "wall exchange file_backend hostroot kvm spec proposals output verdicts lower pump "
    "trait plugin",
    "discovery guards hook_calls hooks listing registry execution languages audit ledger "
    "ledger_errors ledger_file ledger_later ledger_log judging capacity opening",
    "runtime closing ending pausing requests providers detaching lifetimes journal gc looking "
    "terminals",
    "process files session attaching overview pool aio measure testing cli toolkit",
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def imports(path: Path) -> set[str]:
    """Modules imported at run time; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"stockade.{alias.name}" for alias in node.names}
            found |= names if node.module == "stockade" else {node.module}
    return found


def test_imports_go_one_way() -> None:
    for path in CORE.rglob("*.py"):
        own = path.relative_to(CORE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "stockade" and len(parts) > 1 and parts[1] in LEVEL:
                assert LEVEL[parts[1]] <= LEVEL[own], f"{own} imports {parts[1]}"


def test_every_module_has_its_layer() -> None:
    names = {path.name.removesuffix(".py") for path in CORE.iterdir()}
    names -= {"__init__", "py.typed", "__pycache__"}
    assert names == set(LEVEL)


def test_core_does_without_the_toolkit() -> None:
    """It is for walls: it builds on words and on the wall's interface, and core not on it."""
    for path in CORE.rglob("*.py"):
        own = path.relative_to(CORE).parts[0].removesuffix(".py")
        for module in imports(path):
            parts = module.split(".")
            if own != "toolkit":
                assert parts[:2] != ["stockade", "toolkit"], f"{path.name} imports {module}"
            elif parts[0] == "stockade" and len(parts) > 1 and parts[1] in LEVEL:
                low = LEVEL[parts[1]] <= LEVEL["wall"] or parts[1] == "toolkit"
                assert low, f"{path.name} imports {module}"


def test_core_depends_on_three_packages() -> None:
    allowed = {"attr", "attrs", "pluggy", "importlib_metadata", "stockade"}
    extras = {"click", "rich", "pytest", "typing_extensions"}
    for path in CORE.rglob("*.py"):
        own = path.relative_to(CORE).parts[0]
        for module in imports(path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in allowed:
                continue
            if (own, top) == ("toolkit", "stockade_supervisor"):
                continue  # what every wall that uses it depends on
            assert top in extras and own in ("cli", "testing"), f"{path.name} imports {top}"
