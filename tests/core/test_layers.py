"""Imports go one way only: the layers of docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import stockade

CORE = Path(stockade.__file__).parent
LAYERS = [
    "errors results config capabilities events values system _leftover _place _entries "
    "lowering.inside lowering.text cli.templates",
    "wall _exchange file_backend _proposals trait plugin lowering executions._output "
    "executions._verdicts selection._spec",
    "selection policies executions ledger sessions._registry sessions._capacity "
    "sessions._opening sessions._settings",
    "sessions executions._forms executions._terminals executions._journal ledger._collecting "
    "ledger._looking selection._providers",
    "session files aio testing cli toolkit sessions._attaching sessions._pool "
    "sessions._configuring ledger._overview",
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def level(module: str) -> int | None:
    """Of a module below ``stockade``: its own, or that of the package in which it is."""
    while module and module not in LEVEL:
        module = module.rpartition(".")[0]
    return LEVEL.get(module)


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


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
    for own, path in modules():
        mine = level(own)
        if mine is None:
            assert own == "", f"{own} has no layer"
            continue
        for module in imports(path):
            theirs = level(module.partition(".")[2]) if module.startswith("stockade.") else None
            if theirs is not None and not module.endswith("templates"):
                assert theirs <= mine, f"{own} imports {module}"


def test_core_does_without_the_toolkit() -> None:
    """It is for walls: it builds on words and on the wall's interface, and core not on it."""
    for own, path in modules():
        for module in imports(path):
            if not own.startswith(("toolkit", "testing")):
                assert not module.startswith("stockade.toolkit"), f"{own} imports {module}"
            elif own.startswith("toolkit") and module.startswith("stockade."):
                theirs = level(module.partition(".")[2])
                low = theirs is not None and theirs <= LEVEL["wall"]
                low = low or module.startswith("stockade.toolkit")
                assert low, f"{own} imports {module}"


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
