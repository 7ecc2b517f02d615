"""The shape of the sources: no circle of imports, and arrows between packages one way only.

Every import counts, wherever it stands: at the top, in a function, for type checkers alone.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from conftest import LONG

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "core" / "src" / "stockade"
#: Modules that stand in the package itself, at most.
MOST_MODULES = 16
MOST_LINES = 400

#: Modules and packages that count as one part.
PARTS = {
    "words": "errors results config capabilities events _entries _leftover _place values system",
    "wall": "wall _exchange _programs file_backend _proposals plugin trait lowering",
}
#: Which parts one may import, beside itself.
ARROWS = {
    "words": "",
    "wall": "words",
    "toolkit": "words wall",
    "selection": "words wall",
    "policies": "words wall selection",
    "executions": "words wall policies",
    "files": "words wall executions",
    "ledger": "words wall selection",
    "sessions": "words wall selection policies executions ledger",
    "session": "words wall selection executions files sessions",
    "aio": "words wall selection executions files sessions session",
    "testing": "words wall selection policies executions files ledger sessions session aio toolkit",
    "cli": "words wall selection policies executions files ledger sessions session testing",
}
_PART_OF = {name: part for part, names in PARTS.items() for name in names.split()}


def _modules(package: Path) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """What a module imports: modules among these by their names, others as they are written."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in modules else node.module)
    return found


def _part(module: str) -> str:
    """The part of core that a module is in; empty for the package itself."""
    name = module.split(".")[1] if "." in module else ""
    return _PART_OF.get(name, name)


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; empty where there are none."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if circle := walk(other, [*way, module]):
                return circle
        done.add(module)
        return []

    for module in graph:
        if circle := walk(module, []):
            return circle
    return []


def _packages() -> list[Path]:
    found = [CORE]
    for source in sorted(REPOSITORY.glob("plugins/*/src")):
        found += sorted(path for path in source.iterdir() if (path / "__init__.py").exists())
    return found


@pytest.mark.parametrize("package", _packages(), ids=lambda path: path.name)
def test_no_imports_go_round(package: Path) -> None:
    modules = _modules(package)
    graph = {
        name: _imports(path, modules).intersection(modules) - {name}
        for name, path in modules.items()
    }
    assert _circle(graph) == []


def test_a_circle_would_be_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_arrows_between_packages_go_one_way() -> None:
    modules = _modules(CORE)
    for module, path in modules.items():
        own = _part(module)
        if not own:
            continue
        assert own in ARROWS, f"{module} is in no part: say in ARROWS what {own} may import"
        allowed = {own, *ARROWS[own].split()}
        for other in _imports(path, modules):
            if other.partition(".")[0] == "stockade" and other != "stockade":
                assert _part(other) in allowed, f"{module} imports {other}"
            elif other == "stockade":
                assert own in ("cli", "testing"), f"{module} imports the whole package"


def test_parts_themselves_go_one_way() -> None:
    """The table above allows no circle either."""
    assert _circle({part: set(others.split()) for part, others in ARROWS.items()}) == []


def _texts(*endings: str) -> dict[str, str]:
    folders = ("core", "plugins", "supervisor", "tests", "benchmarks")
    paths = [
        path
        for folder in folders
        for ending in endings
        for path in (REPOSITORY / folder).rglob(f"*.{ending}")
    ]
    return {str(path.relative_to(REPOSITORY)): path.read_text() for path in paths}


def test_the_package_holds_few_modules_and_no_long_ones() -> None:
    assert len(list(CORE.glob("*.py"))) <= MOST_MODULES
    texts = _texts("py", "c", "h")
    assert "supervisor/src/main.c" in texts
    assert [name for name, text in texts.items() if text.count("\n") > MOST_LINES] == []


def test_the_tests_that_are_begun_first_are_there() -> None:
    assert [name for name in LONG if not (REPOSITORY / "tests" / name).exists()] == []
    assert len(set(LONG)) == len(LONG)


def test_nothing_is_kept_from_the_formatter() -> None:
    comment = "# fmt: " + "skip"
    assert [name for name, text in _texts("py").items() if comment in text] == []


def test_core_depends_on_three_packages() -> None:
    allowed = {"attr", "attrs", "pluggy", "importlib_metadata", "stockade"}
    extras = {"click", "rich", "pytest", "typing_extensions"}
    modules = _modules(CORE)
    for module, path in modules.items():
        own = _part(module)
        for other in _imports(path, modules):
            top = other.partition(".")[0]
            if top in sys.stdlib_module_names or top in allowed:
                continue
            # The program that walls of the toolkit start, and what opens tunnels for secrets.
            if top in ("stockade_supervisor", "stockade_secrets"):
                assert own == "toolkit", f"{module} imports {top}"
                continue
            assert top in extras, f"{module} imports {top}"
            if module == "stockade.plugin":  # for type checkers alone: its hooks name them
                continue
            assert top == "typing_extensions" or own in ("cli", "testing"), f"{module}: {top}"
