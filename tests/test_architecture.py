"""The layers hold, the core stays light, and modules keep their shape."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import mirrors

ROOT = Path(__file__).parents[1]
ROOMS = ("src/amble", "tests", "bench")
SOURCE = ROOT / "src" / "amble"
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


@pytest.mark.parametrize("module", list(mirrors.modules()))
def test_every_module_has_its_tests(module: str) -> None:
    """In the test module of its name; or in another one that really reaches it, which `mirrors.toml` names."""
    own, other = mirrors.own_test(module), mirrors.tested_elsewhere().get(module)
    if other is None:
        assert own.is_file(), (
            f"write tests/{own.relative_to(mirrors.HERE)}, or name what tests it in tests/mirrors.toml"
        )
        return
    assert not own.is_file(), "it has a test module of its name: take it out of tests/mirrors.toml"
    test = mirrors.HERE / other
    assert test.is_file(), f"tests/{other} is gone: put right tests/mirrors.toml"
    assert mirrors.reaches(test, module), f"tests/{other} imports nothing that leads to it"


def test_no_module_is_listed_that_is_gone() -> None:
    assert set(mirrors.tested_elsewhere()) - set(mirrors.modules()) == set()


def test_the_page_is_one_page_and_names_files_that_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    assert text.count("\n") <= 80
    names = re.findall(r"[\w/-]+\.(?:py|toml|md)\b", text)
    places = [
        *ROOT.glob("*.*"),
        *ROOT.glob("docs/**/*.md"),
        *(path for room in ROOMS for path in (ROOT / room).rglob("*.*")),
    ]
    known = {str(path) for path in places}
    assert [name for name in names if not any(path.endswith(f"/{name}") for path in known)] == []


def test_what_lies_beside_modules_is_in_the_package() -> None:
    """A wheel has what pyproject.toml lists; a page or a table that is not would be missed only once installed."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {
        path
        for package, patterns in listed.items()
        for pattern in patterns
        for path in SOURCE.parent.joinpath(*package.split(".")).glob(pattern)
    }
    data = {path for path in SOURCE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert sorted(map(str, data - shipped)) == []
    assert [each for each in listed if not SOURCE.parent.joinpath(*each.split(".")).is_dir()] == []


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


def test_the_verb_devices_can_be_called_before_and_after_its_folder_was_imported() -> None:
    code = "import amble; one = len(amble.devices()); import amble.devices.host; assert len(amble.devices()) == one > 1"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
