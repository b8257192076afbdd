"""A result is as old as the oldest code that it measures, whatever git knows."""

from __future__ import annotations

import json
from pathlib import Path

import ages
import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A bench that imports one module of a spoke, names a script, and uses one of the doors."""
    files = {
        "src/amble/__init__.py": "from typing import TYPE_CHECKING\n_HOMES = {'amble.jobs': ('plan',)}\n",
        "src/amble/jobs.py": "import amble.deep\n",
        "src/amble/deep.py": "X = 1\n",
        "src/amble/spoke/__init__.py": "",
        "src/amble/spoke/law.py": '"""A law."""\n\nfrom amble.spoke import other\n',
        "src/amble/spoke/other.py": "Y = 2\n",
        "src/amble/unused.py": "Z = 3\n",
        "bench/helper.py": "W = 4\n",
        "bench/load.py": "V = 5\n",
        "bench/one.py": (
            "from typing import TYPE_CHECKING\nimport amble\nimport helper\nfrom amble.spoke.law import f\n"
            "if TYPE_CHECKING:\n    import amble.unused\nSCRIPT = 'load.py'\namble.plan()\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def recorded(project: Path, **code: object) -> Path:
    path = project / "one@cpu.json"
    path.write_text(json.dumps({"name": "one", "results": [], "targets": [], **code}))
    return path


def test_a_bench_reaches_what_it_imports_names_and_opens_by_the_doors(project: Path) -> None:
    found = set(ages.digests("one", project))
    modules = {
        f"src/amble/{name}.py" for name in ("__init__", "jobs", "deep", "spoke/__init__", "spoke/law", "spoke/other")
    }
    assert found == modules | {f"bench/{name}.py" for name in ("one", "helper", "load")}


def test_a_result_is_of_this_version_until_code_changes(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = recorded(project, code={"of": "this run", "files": ages.digests("one", project)})
    assert ages.age(path, project).words == ages.NEW
    moved = tmp_path_factory.mktemp("other") / "project"
    project.rename(moved)  # digests are by place in the project: a clone elsewhere tells the same
    path = moved / path.name
    assert ages.age(path, moved).words == ages.NEW


@pytest.mark.parametrize("name", ["src/amble/deep.py", "src/amble/spoke/other.py", "bench/load.py"])
def test_a_change_of_code_makes_a_result_old(project: Path, name: str) -> None:
    files = ages.digests("one", project)
    path = recorded(project, code={"of": "this run", "files": {**files, name: "00000000"}})
    found = ages.age(path, project)
    assert (found.words, found.changed) == (ages.OLD, (name,))


def test_comments_and_docstrings_are_no_code(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.py" for name in ("first", "second", "third"))
    first.write_text('"""Old."""\n\n\ndef f():\n    """Old."""\n    return "#"  # why\n')
    second.write_text('"""New\n\nand longer."""\n\ndef f():\n    # because\n    """New."""\n\n    return "#"\n')
    third.write_text('"""Old."""\n\n\ndef f():\n    """Old."""\n    return "%"  # why\n')
    one, two, three = (ages.digest(each) for each in (first, second, third))
    assert one == two != three


def test_every_result_is_listed_with_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    ages.main()
    lines = capsys.readouterr().out.splitlines()
    names = {path.stem for path in (ages.ROOT / "bench" / "results").glob("*.json")}
    assert {line.split()[0] for line in lines} == names
    old = [line for line in lines if ages.NEW not in line]
    assert all(ages.OLD in line or ages.UNKNOWN in line for line in old)
    with capsys.disabled():
        ages.main()


def test_a_result_without_digests_is_of_unknown_age(project: Path) -> None:
    assert ages.age(recorded(project), project).words == ages.UNKNOWN
