"""Results of benches -> the numbers in README.md and docs/*.md: what ``make numbers`` does.

    python -m bench.kit.write_numbers [--check]

A number that a document takes from a result stands between two comments, of which the first names it:

    needs no more energy in <!--pit.no_more_energy-->106 of 108<!--/--> cases

What the names mean is in `told.py` of each bench, a line each. Whole tables stand between ``<!-- table: NAME -->`` and
``<!-- end -->``. At the end of a page ``<!--ages-->`` … ``<!--/-->`` tells how old the results are that it uses.
``--check`` writes nothing and fails where a document does not say what the results do.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.kit import ages, places, told
from bench.kit.places import ROOT

_ALL = [import_module(f"bench.{path.parent.name}.told") for path in sorted(places.BENCH.glob("*/told.py"))]
_TELLING = [each for each in _ALL if each is not told]
NUMBERS: told.Numbers = {name: tell for each in _TELLING for name, tell in each.NUMBERS.items()}
TABLES: told.Numbers = {name: tell for each in _TELLING for name, tell in each.TABLES.items()}
SOURCES: dict[str, str] = {name: source for each in _TELLING for name, source in each.SOURCES.items()}
_NUMBER = re.compile(r"(<!--([a-z0-9_]+\.[a-z0-9_.]+)-->)(.*?)(<!--/-->)", re.DOTALL)
_TABLE = re.compile(r"(<!-- table: ([a-z0-9_.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_AGES = re.compile(r"(<!--ages-->).*?(<!--/-->)", re.DOTALL)


def pages() -> list[Path]:
    """Return every document that may hold numbers."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def source(name: str) -> str:
    """Return the result that a number or table is told from, such as `pit@sim`."""
    return SOURCES[name.partition(".")[0]]


def filled(page: str) -> str:
    """Put every number and table of a page into its place; KeyError for a name that nothing tells."""

    def number(found: re.Match[str]) -> str:
        return f"{found[1]}{NUMBERS[found[2]](told.read(source(found[2])))}{found[4]}"

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]](told.read(source(found[2])))}\n\n{found[3]}"

    return _TABLE.sub(table, _NUMBER.sub(number, page))


def used(page: str) -> list[str]:
    """Return the results that a page tells numbers of."""
    names = [*(found[1] for found in _NUMBER.findall(page)), *(found[1] for found in _TABLE.findall(page))]
    return sorted({source(name) for name in names})


def dated(page: str, result: Callable[[str], Path] = places.result) -> str:
    """Tell at the end of a page how old the results are that it uses."""
    by_age: dict[str, list[str]] = {}
    for name in used(page):
        by_age.setdefault(ages.age(result(name)).words, []).append(name)
    text = "; ".join(f"{words}: {', '.join(names)}" for words, names in sorted(by_age.items()))
    return _AGES.sub(lambda found: f"{found[1]}Results {text}.{found[2]}", page)


def unmarked(page: str, result: Callable[[str], Path] = places.result) -> list[str]:
    """Return the results of a page that are not of this version although the page does not say so."""
    marks = _AGES.search(page)
    said = marks[0].partition(f"{ages.NEW}:")[0] if marks else ""
    old = [name for name in used(page) if name not in said]
    return [name for name in old if ages.age(result(name)).words != ages.NEW]


def main() -> int:
    """Rewrite the documents, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a document differs")
    check, wrong = parser.parse_args().check, 0
    for path in pages():
        page = path.read_text(encoding="utf-8")
        new = filled(page)
        if check and (new != page or unmarked(page)):
            print(f"{path.relative_to(ROOT)} says other numbers than the results, or hides their age: make numbers")
            wrong += 1
        elif not check and (new := dated(new)) != page:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
