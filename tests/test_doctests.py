"""Every example in a docstring gives what it says."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
WITH_EXAMPLES = sorted(
    path for path in SOURCE.rglob("*.py") if re.search(r"^\s+>>> ", path.read_text(), flags=re.MULTILINE)
)


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) >= 3


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_true(path: Path) -> None:
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
