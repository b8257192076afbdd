"""Results of benches -> which are older than the code that they measure.

    python bench/ages.py          one line a result: of this version, of an older one (and what changed), or unknown

A document holds a digest of every file that its bench reaches by imports, or names as a script or log of this project
(`code`), as that file was when it ran. Comments, docstrings and empty lines are in no digest. A result whose files all
have today's digests is of this version; one without digests is of unknown age.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["NEW", "OLD", "UNKNOWN", "Age", "age", "digest", "digests", "reached"]

ROOT = Path(__file__).resolve().parent.parent
HERE = "bench"
DOORS = Path("src", "amble", "__init__.py")  # its names are resolved when they are used, so it imports nothing itself
NEW, OLD, UNKNOWN = "of this version", "of an older version", "of unknown age"
_NO_MEASURE = {"document", "ages"}  # how a document is written changes no number in it
_FOLDERS = ("src", "bench", "train")


@dataclass(frozen=True, slots=True)
class Age:
    """How old a result is, and the files that changed since it was taken."""

    name: str
    words: str
    changed: tuple[str, ...] = ()


def age(result: Path, root: Path = ROOT) -> Age:
    """Compare the digests in a document with today's files."""
    found = json.loads(result.read_text(encoding="utf-8"))
    then = found.get("code", {}).get("files")
    if not then:
        return Age(result.stem, UNKNOWN)
    now = digests(found["name"], root)
    changed = tuple(sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)))
    return Age(result.stem, OLD if changed else NEW, changed)


def digests(name: str, root: Path = ROOT) -> dict[str, str]:
    """Return a short digest of every file that a bench reaches, by its path in the project."""
    starts = sorted((root / HERE).rglob(f"{name}.py"))
    return {str(path.relative_to(root)): digest(path) for start in starts[:1] for path in reached(start, root)}


def reached(start: Path, root: Path = ROOT) -> list[Path]:
    """Return a script and all files of the project that it imports or names, and those that they do."""
    found, left = set[Path](), [start]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += [each for each in _next(path, root) if each.stem not in _NO_MEASURE]
    return sorted(found)


@cache
def _next(path: Path, root: Path) -> tuple[Path, ...]:
    """Return the files that one file imports, or names."""
    return tuple(dict.fromkeys(_mentioned(path, root)))


def _mentioned(path: Path, root: Path) -> Iterator[Path]:
    if path.suffix != ".py" or path == root / DOORS:
        return
    for node in _executed(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (each for alias in node.names for each in _module(alias.name, root, path.parent))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join([_package(path, root, node.level), *([module] if module else [])])
            yield from (each for alias in node.names for each in _module(f"{module}.{alias.name}", root, path.parent))
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == DOORS.parent.name
        ):
            yield from _module(_homes(root).get(node.attr, ""), root, path.parent)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _named(node.value, root, path.parent)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a module without what only type checkers read."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        typed = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        left += [] if typed else ast.iter_child_nodes(node)


@cache
def _homes(root: Path) -> dict[str, str]:
    """Return the module of each name that the package's doors resolve when it is first used."""
    path = root / DOORS
    tree = ast.parse(path.read_bytes()) if path.exists() else ast.Module([], [])
    tables = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
    homes = (ast.literal_eval(node.value) for node in tables)
    return {name: module for home in homes for module, names in home.items() for name in names}


def _package(path: Path, root: Path, level: int) -> str:
    """Return the package that a relative import starts from."""
    parts = path.relative_to(root / "src").with_suffix("").parts
    return ".".join(parts[:-level] if path.name != "__init__.py" else parts[: len(parts) - level])


def _module(name: str, root: Path, beside: Path) -> Iterator[Path]:
    """Yield the file of a module, of a module's attribute, and of the packages around it."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        for folder in (beside, *(root / each for each in _FOLDERS)):
            place = folder.joinpath(*parts[:length])
            yield from (each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file())


def _named(text: str, root: Path, beside: Path) -> Iterator[Path]:
    """Yield the script, log or module that a string names, if it is one of the project."""
    if text.startswith(f"{DOORS.parent.name}.") and text.replace(".", "").replace("_", "").isalnum():
        yield from _module(text, root, beside)
    if text.endswith((".py", ".jsonl")) and len(text) < 80 and "\n" not in text:
        places = (folder / text for folder in (beside, root, *(root / each for each in _FOLDERS)))
        yield from (place.resolve() for place in places if place.is_file())


@cache
def digest(path: Path) -> str:
    """Return a short digest of a file; of code without its comments, docstrings and empty lines."""
    content = _bare(path.read_text(encoding="utf-8")) if path.suffix == ".py" else path.read_text(encoding="utf-8")
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _bare(source: str) -> str:
    """Return code without its comments, docstrings and empty lines."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            first = node.body[0]
            lines[first.lineno - 1 : first.end_lineno] = [""] * ((first.end_lineno or first.lineno) - first.lineno + 1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1]:
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def main() -> int:
    """List every result with its age."""
    for path in sorted((ROOT / HERE / "results").glob("*.json")):
        found = age(path)
        more = f": {len(found.changed)} files changed, such as {', '.join(found.changed[:3])}" if found.changed else ""
        print(f"{found.name:26} {found.words}{more}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
