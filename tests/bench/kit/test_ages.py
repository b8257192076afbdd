"""A result is as old as the oldest code and data that it measures, whatever git knows and wherever they lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.kit import ages, places
from bench.kit.reach import Tree

FILES = {
    "src/amble/__init__.py": "import lazy_loader\n",
    "src/amble/__init__.pyi": "from .jobs import plan as plan\n",
    "src/amble/jobs.py": "import amble.deep\n\n\ndef plan():\n    return amble.deep.X\n",
    "src/amble/deep.py": "X = 1\n",
    "src/amble/spoke/__init__.py": "from .law import f as f\n",
    "src/amble/spoke/law.py": '"""A law."""\n\nfrom amble.spoke import other\n\n\ndef f():\n    return other.Y\n',
    "src/amble/spoke/other.py": "Y = 2\n",
    "src/amble/spoke/chips.py": 'from importlib.resources import files\n\nALL = files("amble.spoke") / "chips"\n',
    "src/amble/spoke/chips/one.toml": "clock_hz = 3  # of the sheet\n",
    "src/amble/unused.py": "Z = 3\n",
    "bench/kit/helper.py": "W = 4\n",
    "bench/one/__init__.py": 'DEVICE = "cpu"\n',
    "bench/one/__main__.py": "from bench.one.study import main\n\nmain()\n",
    "bench/one/load.py": "V = 5\n",
    "bench/one/repeat.py": "U = 6\n",
    "bench/one/study.py": (
        "from typing import TYPE_CHECKING\n\nimport amble\nfrom amble.spoke import chips, f\n"
        "from bench.kit import helper\n\n"
        "if TYPE_CHECKING:\n    import amble.unused\nSCRIPT, AGAIN = 'load.py', ('-m', 'bench.one.repeat')\n\n\n"
        "def main():\n    return amble.plan(), f(), chips.ALL, helper.W\n"
    ),
}
Change = Callable[[dict[str, str]], dict[str, str]]


def written(folder: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(folder)


def replaced(name: str, old: str, new: str) -> Change:
    assert old in FILES[name]
    return lambda files: files | {name: files[name].replace(old, new)}


def moved(old: str, new: str) -> Change:
    """Move a module, and import it where it lies by then."""
    before, after = (name.removeprefix("src/").removesuffix(".py").replace("/", ".") for name in (old, new))
    (package, _, name), (other, _, called) = before.rpartition("."), after.rpartition(".")

    def change(files: dict[str, str]) -> dict[str, str]:
        found = {new if path == old else path: text for path, text in files.items()}
        alias = f"from {other} import {called} as {name}"
        return {path: text.replace(f"from {package} import {name}", alias) for path, text in found.items()}

    return change


def aged(tmp_path: Path, change: Change) -> ages.Age:
    """Record a result, change the project, and ask how old the result is."""
    before = written(tmp_path / "before", FILES)
    path = tmp_path / "one@cpu.json"
    document = {"name": "one", "results": [], "targets": [], "code": {"files": ages.digests("one", before)}}
    path.write_text(json.dumps(document))
    return ages.age(path, written(tmp_path / "after", change(FILES)))


def test_a_bench_reaches_what_it_imports_names_reads_and_opens_by_the_doors(tmp_path: Path) -> None:
    modules = {f"src/amble/{name}.py" for name in ("jobs", "deep", "spoke/law", "spoke/other", "spoke/chips")}
    parts = {f"bench/{name}.py" for name in ("one/study", "kit/helper", "one/load", "one/repeat")}
    found = ages.digests("one", written(tmp_path, FILES))
    assert set(found) == modules | parts | {"src/amble/spoke/chips/one.toml"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda files: files, id="nothing"),
        pytest.param(replaced("src/amble/spoke/law.py", "A law.", "Another word."), id="a docstring"),
        pytest.param(replaced("src/amble/deep.py", "X = 1", "X = 1  # why"), id="a comment"),
        pytest.param(replaced("src/amble/unused.py", "Z = 3", "Z = 4"), id="what only type checkers read"),
        pytest.param(replaced("bench/one/study.py", "import amble.unused", "import amble.deep"), id="for checkers"),
        pytest.param(replaced("bench/one/__init__.py", "cpu", "sim"), id="the frame of the bench"),
        pytest.param(replaced("src/amble/spoke/chips/one.toml", "of the sheet", "measured"), id="a source of a number"),
        pytest.param(moved("src/amble/spoke/other.py", "src/amble/room/other.py"), id="a module moved"),
        pytest.param(moved("src/amble/spoke/other.py", "src/amble/room/called.py"), id="a module moved and renamed"),
        pytest.param(moved("bench/kit/helper.py", "bench/parts/helping.py"), id="a bench's part moved"),
    ],
)
def test_what_does_nothing_ages_no_result(tmp_path: Path, change: Change) -> None:
    found = aged(tmp_path, change)
    assert (found.words, found.changed) == (ages.NEW, ())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("src/amble/deep.py", "X = 1", "X = 2"),
        ("src/amble/spoke/other.py", "Y = 2", "Y = 3"),
        ("src/amble/spoke/law.py", "other.Y", "-other.Y"),
        ("bench/one/load.py", "V = 5", "V = 6"),
        ("bench/one/repeat.py", "U = 6", "U = 7"),
        ("src/amble/spoke/chips/one.toml", "3", "4"),
    ],
)
def test_a_change_of_code_or_data_makes_a_result_old(tmp_path: Path, name: str, old: str, new: str) -> None:
    found = aged(tmp_path, replaced(name, old, new))
    assert (found.words, found.changed) == (ages.OLD, (name,))


def test_what_is_kept_of_a_bench_goes_by_another_key_where_its_code_is_another(tmp_path: Path) -> None:
    before = ages.key("one", written(tmp_path / "before", FILES))
    other = replaced("src/amble/deep.py", "X = 1", "X = 2")(FILES)
    unused = replaced("src/amble/unused.py", "Z = 3", "Z = 4")(FILES)
    assert ages.key("one", written(tmp_path / "other", other)) != before
    assert ages.key("one", written(tmp_path / "unused", unused)) == before


def test_another_chip_beside_those_that_are_read_makes_a_result_old(tmp_path: Path) -> None:
    found = aged(tmp_path, lambda files: files | {"src/amble/spoke/chips/two.toml": "clock_hz = 5\n"})
    assert (found.words, found.changed) == (ages.OLD, ("src/amble/spoke/chips/two.toml",))


def test_the_doors_are_followed_where_they_are_a_table_too(tmp_path: Path) -> None:
    files = {name: text for name, text in FILES.items() if not name.endswith(".pyi")}
    table = {"src/amble/__init__.py": "_HOMES = {'amble.jobs': ('plan',)}\n"}
    found = ages.digests("one", written(tmp_path, files | table))
    assert {"src/amble/jobs.py", "src/amble/deep.py"} <= set(found)


def test_a_result_without_digests_is_of_unknown_age(tmp_path: Path) -> None:
    path = tmp_path / "one@cpu.json"
    path.write_text(json.dumps({"name": "one", "results": [], "targets": []}))
    assert ages.age(path, written(tmp_path / "project", FILES)).words == ages.UNKNOWN


def test_every_result_is_listed_with_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    ages.main()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {path.stem for path in places.results()}
    old = [line for line in lines if ages.NEW not in line]
    assert all(ages.OLD in line or ages.UNKNOWN in line for line in old)
    with capsys.disabled():
        ages.main()
