"""Python text that runs inside sandboxes, made of this package's own modules.

They are modules like others here, so that they are checked like others; inside they meet
any Python from 3.6 on, and no package. What is sent is their text without what only
readers and checkers need.
"""

from __future__ import annotations

import ast
import functools

__all__ = ["inside_text"]


@functools.cache
def inside_text(*names: str) -> str:
    """The modules' text as one module, in that order; names as ``import`` takes them.

    Imports among these modules, docstrings and annotations are left out. Called when a
    first request needs it.
    """
    from importlib.resources import files  # brings much, and most programs are no code

    body: list[ast.stmt] = []
    for name in names:
        package, _, module = name.rpartition(".")
        text = files(package).joinpath(f"{module}.py").read_text(encoding="utf-8")
        body += _Bare().visit(ast.parse(text)).body
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, type_ignores=[])))


class _Bare(ast.NodeTransformer):
    """Leaves out what no interpreter needs."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if (node.module or "").startswith("stockade.") else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        of_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if of_types else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.Assign(targets=[node.target], value=node.value)

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)
