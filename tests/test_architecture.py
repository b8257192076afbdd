"""The layers hold, the core stays light, and modules keep their shape."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import amble

SOURCE = Path(__file__).parents[1] / "src" / "amble"
MODULES = sorted(SOURCE.rglob("*.py"))


def test_the_import_contracts_hold() -> None:
    found = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=SOURCE.parents[1], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("heavy", ["numpy", "onnx", "onnxruntime", "scipy", "rich", "torch", "plotly"])
def test_the_command_line_starts_without_the_heavy_packages(heavy: str) -> None:
    code = f"import amble.cli, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", amble.__all__)
def test_a_public_name_stays_what_it_is_whatever_is_imported(name: str) -> None:
    first = getattr(amble, name)
    for folder in ("cli", "core", "devices", "inputs", "jobs", "levers", "runtimes", "services", "stages"):
        importlib.import_module(f"amble.{folder}")
    assert getattr(amble, name) is first
    assert not isinstance(first, ModuleType)


@pytest.mark.parametrize("extra", ["plotly", "pynvml", "grpc", "uvicorn", "uvloop", "tritonclient", "opentelemetry"])
def test_an_extra_is_imported_in_one_module_only(extra: str) -> None:
    users = [path for path in MODULES if extra in _imports(path)]
    assert len(users) <= 1, users


def test_torch_is_imported_only_where_gradients_or_its_own_tensors_are_needed() -> None:
    users = {str(path.relative_to(SOURCE)) for path in MODULES if "torch" in _imports(path)}
    rooms = ("runtimes/torch/", "levers/memory/learning/", "levers/widths/")
    assert [user for user in users if not user.startswith(rooms)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_says_what_is_in_it_and_is_not_too_long(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= 420


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_function_is_too_long(path: Path) -> None:
    long = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines(node) > 50
    ]
    assert not long


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring."""
    docstring = ast.get_docstring(node, clean=False) or ""
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring.count("\n") - bool(docstring)
