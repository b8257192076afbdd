"""A file of a project -> the files of the project that it imports, names or reads, and where its names are at home.

Files of data that a module reads from its package (chips, memories, tables, networks) are reached as its imports are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.kit import places

__all__ = ["PROJECT", "Bound", "Tree", "bound", "imports", "is_for_checkers", "named", "reached", "resolved"]

PACKAGES = ("amble", "bench", "tools", "examples")
_DATA = (".toml", ".json", ".csv", ".gz", ".onnx", ".npz", ".npy", ".jsonl")
_FRAME = ("__init__", "ages", "code", "document", "places", "reach")  # of the benches: they change no number


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a project. `folders`: where modules are looked for, relative to the root."""

    root: Path
    folders: tuple[str, ...] = ("src", "")
    doors: str = "amble"  # the package whose names are resolved when they are used

    def module(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the file of a module of the project."""
        places = [*([beside] if beside else []), *(self.root / each for each in self.folders)]
        for place in (folder.joinpath(*name.split(".")) for folder in places if name):
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file():
                    return file
        return None

    def is_frame(self, path: Path) -> bool:
        """Tell whether a file only frames the benches' numbers."""
        return path.stem in _FRAME and path.is_relative_to(self.root / "bench")


PROJECT = Tree(places.ROOT)


@dataclass(frozen=True, slots=True)
class Bound:
    """What a name of a module is bound to by an import: a module of the project, or a name in one."""

    home: Path
    name: str = ""  # empty: the module itself


def reached(tree: Tree, start: Path) -> list[Path]:
    """Return a script and all files of the project that it imports, names or reads, and those that they do."""
    found, left = set[Path](), [start]
    while left:
        path = left.pop()
        if path not in found and not tree.is_frame(path):
            found.add(path)
            left += _next(tree, path)
    return sorted(found)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _executed(path: Path) -> tuple[ast.AST, ...]:
    """Return the nodes of a module without what only type checkers read."""
    found, left = list[ast.AST](), list[ast.AST]([_parsed(path)])
    while left:
        node = left.pop()
        if not is_for_checkers(node):
            found.append(node)
            left += ast.iter_child_nodes(node)
    return tuple(found)


def is_for_checkers(node: ast.AST) -> bool:
    """Tell whether this is `if TYPE_CHECKING`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def imports(tree: Tree, path: Path) -> dict[str, tuple[str, str]]:
    """Return the module that each imported name of a module comes from, and its name there (empty: the module)."""
    found = dict[str, tuple[str, str]]()
    for node in _executed(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or whole] = (whole, "")
        elif isinstance(node, ast.ImportFrom):
            package = _package(tree, path, node)
            found |= {alias.asname or alias.name: (package, alias.name) for alias in node.names}
    return found


@cache
def bound(tree: Tree, path: Path, name: str) -> Bound | None:
    """Return what an imported name of a module is, if it is of the project."""
    module, inner = imports(tree, path).get(name, ("", ""))
    return _member(tree, module, inner, path.parent, frozenset([path]))


def resolved(tree: Tree, path: Path, node: ast.expr) -> Bound | None:
    """Return what a name, or an attribute of a module of the project, is."""
    if isinstance(node, ast.Name):
        return bound(tree, path, node.id)
    if not isinstance(node, ast.Attribute) or node.attr == "__file__":
        return None
    before = resolved(tree, path, node.value)
    if before is None or before.name:
        return None
    return _inside(before.home, node.attr) or _at_home(tree, before.home, node.attr, frozenset())


def _inside(package: Path, name: str) -> Bound | None:
    """Return a module in a package."""
    files = (package.parent / f"{name}.py", package.parent / name / "__init__.py")
    return next((Bound(file) for file in files if package.name == "__init__.py" and file.is_file()), None)


def _member(tree: Tree, module: str, name: str, beside: Path, seen: frozenset[Path]) -> Bound | None:
    home = tree.module(f"{module}.{name}" if name else module, beside)
    if home:
        return Bound(home)
    home = tree.module(module, beside)
    return _at_home(tree, home, name, seen) if home else None


def _at_home(tree: Tree, path: Path, name: str, seen: frozenset[Path]) -> Bound:
    """Follow a name through the modules that only hand it on."""
    handed = imports(tree, path).get(name) or _lazy(tree, path).get(name)
    if path in seen or name in _defined(path) or handed is None:
        return Bound(path, name)
    return _member(tree, *handed, path.parent, seen | {path}) or Bound(path, name)


@cache
def _defined(path: Path) -> frozenset[str]:
    """Return the names that a module itself defines."""
    nodes = _parsed(path).body
    targets = [each for node in nodes if isinstance(node, ast.Assign) for each in node.targets]
    targets += [node.target for node in nodes if isinstance(node, ast.AnnAssign)]
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    return frozenset(names | {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)})


@cache
def _lazy(tree: Tree, path: Path) -> dict[str, tuple[str, str]]:
    """Return the homes of names that a package resolves when they are first used: its stub's imports, or a table."""
    if path.name != "__init__.py":
        return {}
    stub = path.with_suffix(".pyi")
    found = dict(imports(tree, stub)) if stub.is_file() else {}
    tables = [node.value for node in _parsed(path).body if isinstance(node, ast.Assign) and _is_table(node.value)]
    for home, names in (each for table in tables for each in ast.literal_eval(table).items()):
        found |= {name: (home, name) for name in names}
    return found


def _is_table(node: ast.AST) -> bool:
    """Tell whether this is a dictionary of modules and the names that each has."""
    if not isinstance(node, ast.Dict) or not node.keys:
        return False
    keys = all(isinstance(key, ast.Constant) and str(key.value).startswith("amble.") for key in node.keys)
    return keys and all(isinstance(value, ast.Tuple) for value in node.values)


def _package(tree: Tree, path: Path, node: ast.ImportFrom) -> str:
    """Return the module that a `from` names, in full."""
    if not node.level:
        return node.module or ""
    source = tree.root / "src"
    parts = path.relative_to(source if path.is_relative_to(source) else tree.root).parent.parts
    inside = parts[: len(parts) - node.level + 1]
    return ".".join([*inside, *([node.module] if node.module else [])])


@cache
def _next(tree: Tree, path: Path) -> tuple[Path, ...]:
    """Return the files that one file imports, names or reads."""
    only_hands_on = path.suffix != ".py" or path == tree.module(tree.doors)
    return () if only_hands_on else tuple(dict.fromkeys(_mentioned(tree, path)))


def _mentioned(tree: Tree, path: Path) -> Iterator[Path]:
    for name, (module, _) in imports(tree, path).items():
        homes = [tree.module(module, path.parent), getattr(bound(tree, path, name), "home", None)]
        yield from (each for home in homes if home for each in _around(tree, home))
    for node in _executed(path):
        if isinstance(node, ast.Import):
            homes = [tree.module(alias.name, path.parent) for alias in node.names]
            yield from (each for home in homes if home for each in _around(tree, home))
        elif isinstance(node, ast.Attribute):
            found = resolved(tree, path, node)
            yield from _around(tree, found.home) if found else ()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from named(tree, node.value, path)
        elif isinstance(node, ast.Call):
            yield from _data(tree, path, node)


def _around(tree: Tree, home: Path) -> Iterator[Path]:
    """Yield a file and the packages that hold it, which are imported with it."""
    yield home
    for folder in home.parents:
        if folder == tree.root or folder == tree.root / "src":
            return
        if (package := folder / "__init__.py").is_file():
            yield package


def named(tree: Tree, text: str, path: Path) -> list[Path]:
    """Return the script, log or module that a string names, if it is one of the project, and its packages."""
    module = text.partition(":")[0]
    if module.partition(".")[0] in PACKAGES and "." in module and module.replace(".", "").replace("_", "").isalnum():
        home = tree.module(module)
        return list(_around(tree, home)) if home else []
    if not text.endswith((".py", ".jsonl")) or len(text) > 80 or not set("\n*").isdisjoint(text):
        return []
    places = [path.parent, tree.root, *(tree.root / each for each in tree.folders)]
    files = [folder / text for folder in places if (folder / text).is_file()]
    return [each.resolve() for each in files[:1] or sorted(tree.root.glob(f"bench/*/{text}"))]


def _data(tree: Tree, path: Path, call: ast.Call) -> Iterator[Path]:
    """Yield the files of `files("PACKAGE")` that a module names, and all in the folders there that it names."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if called not in ("files", "resources") or not call.args or not isinstance(call.args[0], ast.Constant):
        return
    home = tree.module(str(call.args[0].value))
    if home is None:
        return
    texts = [each.value for each in _executed(path) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    for text in texts:
        place = home.parent / text if 0 < len(text) < 80 and text.isprintable() else home
        for each in sorted(place.iterdir()) if place.is_dir() and place != home.parent else [place]:
            if each.suffix in _DATA and each.is_file():
                yield each
