"""The list of guarantees speaks of code and tests that there are."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.run import ROOT, Guarantee, listed

GUARANTEES, SPARED = listed()


def named(guarantee: Guarantee) -> set[str]:
    """Functions of its file, methods as Class.method; those with decorators are out of mutmut's reach."""
    found = set()
    for node in ast.parse((ROOT / guarantee.file).read_text(encoding="utf-8")).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found |= {owner + each.name for each in inside if isinstance(each, ast.FunctionDef) and not each.decorator_list}
    return found


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=lambda each: each.says)
def test_what_is_to_be_changed_is_there_once_and_so_are_the_tests(guarantee: Guarantee) -> None:
    written = (ROOT / guarantee.file).read_text(encoding="utf-8")
    assert [old for old, new in guarantee.changes if written.count(old) != 1 or old == new] == []
    assert set(guarantee.functions) <= named(guarantee)
    assert guarantee.functions or guarantee.changes
    for test in guarantee.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")


def test_nothing_is_spared_without_a_reason() -> None:
    assert all(SPARED.values())
