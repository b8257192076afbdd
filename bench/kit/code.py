"""A file of a project -> a digest of what it does.

A module is compared by its syntax tree, without docstrings, comments, what only type checkers read, `__all__`, import
statements, the names of modules and files' places. What it imports goes by the name that it has at home, together with
a digest of that home: so neither a moved module nor an import under another name changes a digest, and a name that is
taken from another module does. Data are compared byte by byte, TOML without its comments.
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from bench.kit.reach import PROJECT, Bound, Tree, bound, imports, is_for_checkers, named, reached, resolved

__all__ = ["digest", "digests", "whole"]


def digests(tree: Tree, start: Path) -> dict[str, str]:
    """Return the digest of every file that a script reaches and that does something, by its place in the project."""
    found = {str(path.relative_to(tree.root)): digest(tree, path) for path in reached(tree, start)}
    return {name: each for name, each in found.items() if each}


@cache
def digest(tree: Tree, path: Path) -> str:
    """Return a short digest of a file: of itself and, for code, of where it takes names from.

    Empty for a module that does nothing but import.
    """
    if path.suffix != ".py":
        content = path.read_bytes()
        return _short(repr(tomllib.loads(content.decode())).encode() if path.suffix == ".toml" else content)
    text, uses = _bare(tree, path)
    homes = sorted({f"{use.name}={_alone(tree, use.home)}" for use in uses if not tree.is_frame(use.home)})
    return f"{_short(text.encode())}.{_short(repr(homes).encode())}" if text else ""


def whole(*files: Path, tree: Tree = PROJECT) -> str:
    """Return one SHA-256 of what several files do, for a log that says what made it."""
    return hashlib.sha256("\n".join(digest(tree, each) for each in files).encode()).hexdigest()


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


@cache
def _alone(tree: Tree, path: Path) -> str:
    """Digest a file without where its names are at home."""
    return _short(_bare(tree, path)[0].encode()) if path.suffix == ".py" else ""


@cache
def _bare(tree: Tree, path: Path) -> tuple[str, frozenset[Bound]]:
    """Return what a module does as text, and what it uses of others; nothing for the doors, which only hand on."""
    stripped = _Stripped(tree, path)
    body = stripped.visit(ast.parse(path.read_bytes())).body
    if path == tree.module(tree.doors) or all(isinstance(node, ast.Pass) for node in body):
        return "", frozenset()
    return "\n".join(map(_text, body)), frozenset(stripped.uses)


def _text(node: object) -> str:
    """Write a tree down without its empty fields, of which each Python has others."""
    if isinstance(node, list):
        return f"[{' '.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, each) for name, each in ast.iter_fields(node) if each not in (None, []) and name != "ctx"]
    return f"({type(node).__name__} {' '.join(f'{name}={_text(each)}' for name, each in fields)})"


class _Stripped(ast.NodeTransformer):
    """Takes from a module what does nothing, and gives names from elsewhere the name that they have at home."""

    def __init__(self, tree: Tree, path: Path) -> None:
        self._tree, self._path = tree, path
        self._local: frozenset[str] = frozenset()  # names of the functions around, which hide imported ones
        self.uses: list[Bound] = []

    def visit(self, node: ast.AST) -> Any:
        """Enter a function with its own names."""
        outside = self._local
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            self._local |= _own_names(node)
        found = super().visit(node)
        self._local = outside
        return found

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Drop docstrings and statements that only say where something lies."""
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        if isinstance(node, ast.Module):
            node.body = [each for each in node.body if not _is_place(each)]
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Import(self, node: ast.Import) -> None:
        """Drop it."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Drop it."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Drop what only type checkers read, and the call of a script's main function."""
        return None if is_for_checkers(node) or _is_main(node) else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Call a name what it is called at home."""
        if node.id in self._local:
            return node
        if found := bound(self._tree, self._path, node.id):
            return self._used(found)
        module, name = imports(self._tree, self._path).get(node.id, ("", node.id))
        return ast.Name(f"{module}.{name}".strip("."))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Take `module.name` for `name`."""
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            root = root.value
        is_local = isinstance(root, ast.Name) and root.id in self._local
        found = None if is_local else resolved(self._tree, self._path, node)
        return self._used(found) if found else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Take a file for its name, and a module for no more than one."""
        found = named(self._tree, node.value, self._path) if isinstance(node.value, str) else []
        if not found or found[0].suffix != ".py":
            return ast.Constant(found[0].name) if found else node
        self.uses.append(Bound(found[0], "named"))
        return ast.Constant("of the project")

    def _used(self, found: Bound) -> ast.AST:
        self.uses.append(found)
        return ast.Name(found.name or "a module")


def _own_names(function: ast.AST) -> set[str]:
    """Return the names of the arguments and of what is assigned inside."""
    nodes = list(ast.walk(function))
    stored = {each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return stored | {each.arg for each in nodes if isinstance(each, ast.arg)}


def _is_place(node: ast.stmt) -> bool:
    """Tell whether a statement starts a script, lists the names of a module, or is made of where its file lies."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id == "main"
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if isinstance(node, ast.Assign) else ()
    return "__all__" in names or "__file__" in names


def _is_main(node: ast.If) -> bool:
    left = node.test.left if isinstance(node.test, ast.Compare) else None
    return isinstance(left, ast.Name) and left.id == "__name__"
