"""What the documents tell as measured is what the results say, and old results are told as such."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.kit import ages, places, told, write_numbers

PAGES = write_numbers.pages()
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}


def named(path: Path) -> str:
    return str(path.relative_to(places.ROOT))


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_document_tells_the_numbers_of_the_results(path: Path) -> None:
    assert write_numbers.filled(TEXTS[path]) == TEXTS[path], "make numbers"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_document_says_which_of_its_results_are_of_an_older_version(path: Path) -> None:
    assert write_numbers.unmarked(TEXTS[path]) == [], "make numbers"


def test_every_line_of_what_was_measured_is_told_from_a_result() -> None:
    part = TEXTS[places.ROOT / "README.md"].partition("## What was measured")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ") and "`bench/" in line]
    assert len(rows) >= 7
    for row in rows:
        scripts = set(re.findall(r"`bench/(\w+)`", row))
        assert scripts <= {name.partition("@")[0] for name in write_numbers.used(row)}


def test_no_number_is_told_that_no_document_asks_for() -> None:
    asked = "\n".join(TEXTS.values())
    names = [*write_numbers.NUMBERS, *write_numbers.TABLES]
    assert [name for name in names if f"<!--{name}-->" not in asked and f"<!-- table: {name} -->" not in asked] == []


def test_a_number_that_differs_is_written_anew() -> None:
    right = write_numbers.filled("in <!--pit.cases-->?<!--/--> cases")
    assert re.fullmatch(r"in <!--pit\.cases-->\d+<!--/--> cases", right)
    assert write_numbers.filled(right.replace(">1", ">9")) == right


def test_a_name_that_nothing_tells_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"pit\.nonsense"):
        write_numbers.filled("<!--pit.nonsense-->1<!--/-->")


def test_an_old_result_that_is_not_marked_is_found(tmp_path: Path) -> None:
    old = {
        "name": "pit",
        "results": [],
        "targets": [],
        "code": {"of": "a run", "files": {"bench/pit/study.py": "00000000"}},
    }
    (tmp_path / "pit@sim.json").write_text(json.dumps(old))
    place, number = (lambda name: tmp_path / f"{name}.json"), "<!--pit.cases-->108<!--/-->"
    assert write_numbers.unmarked(number, place) == ["pit@sim"]
    assert write_numbers.unmarked(f"{number} <!--ages-->{ages.NEW}: pit@sim<!--/-->", place) == ["pit@sim"]
    assert write_numbers.unmarked(f"{number} <!--ages-->{ages.OLD}: pit@sim<!--/-->", place) == []
    assert write_numbers.unmarked(write_numbers.dated(f"{number} <!--ages--><!--/-->", place), place) == []


def test_ranges_and_signs_read_well() -> None:
    assert told.between([0.24, 0.31], scale=100, unit="%") == "24 to 31 %"
    assert told.between([-0.001, 0.0], 1) == "0.0"
    assert told.between([-1.0, 2.0]) == "−1 to 2"
    assert told.signed(-0.56) == "−0.6"
    assert told.count([True, False, True]) == "2 of 3"


def test_a_value_is_of_one_target() -> None:
    targets = [
        {"target": "time, a", "value": 1.0, "met": True},
        {"target": "end of time, a", "value": 2.0, "met": False},
    ]
    found = told.Result([], targets)
    assert found.value("time", "a") == 1.0
    assert found.met("time") == "1 of 2"
    with pytest.raises(AssertionError):
        found.value(", a")
    with pytest.raises(AssertionError):
        found.value("nothing")
