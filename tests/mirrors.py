"""Which test module a module has: the one of its name, or the one that `mirrors.toml` says tests it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src" / "amble"
_HOPS = 4  # of imports, from a test to what it tests by way of something else


def tested_elsewhere() -> Mapping[str, str]:
    """Return the modules that a test module of another name tests."""
    found: Mapping[str, str] = tomllib.loads((HERE / "mirrors.toml").read_text())["tested_by"]
    return found


def modules() -> Iterator[str]:
    """Yield every module that holds more than re-exported names, as a path below the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            yield str(path.relative_to(SOURCE))


def own_test(module: str) -> Path:
    """Return where the test of a module belongs."""
    path = Path(module)
    return HERE / path.parent / f"test_{path.name}"


def reaches(test: Path, module: str) -> bool:
    """Tell whether a test imports a module, or something that imports it within a few hops."""
    wanted, seen, ahead = _name(module), set[str](), _imports(test)
    for _ in range(_HOPS):
        if wanted in ahead:
            return True
        seen |= ahead
        files = [file for name in ahead if (file := _file(name)) is not None]
        ahead = {name for file in files for name in _imports(file)} - seen
    return wanted in ahead


def _name(module: str) -> str:
    return ".".join(("amble", *Path(module).with_suffix("").parts))


def _file(name: str) -> Path | None:
    base = (SOURCE.parent if name.startswith("amble") else HERE.parent).joinpath(*name.split("."))
    return next(
        (each for each in (base.with_suffix(".py"), base / "__init__.pyi", base / "__init__.py") if each.is_file()),
        None,
    )


@cache
def _imports(path: Path) -> set[str]:
    """Return what a file imports of ours: modules, and names that may be modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = f"amble.{node.module}" if node.level else node.module
            found |= {whole, *(f"{whole}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("amble."):
            found.add(node.value)  # imported only where an extra is there
    return {name for name in found if name.startswith(("amble", "tests"))}
