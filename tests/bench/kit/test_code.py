"""A digest of code: the same for the same deeds under other names of imports, another for names from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kit.code import digest
from bench.kit.reach import Tree, reached

HOMES = {"first": "def cost():\n    return 1\n", "second": "def cost():\n    return 2\n"}


def digested(folder: Path, text: str, *, name: str = "user") -> str:
    package = folder / "src" / "amble"
    package.mkdir(parents=True)
    for home, content in HOMES.items():
        (package / f"{home}.py").write_text(content)
    (package / "__init__.py").write_text("")
    (package / "handing.py").write_text("from amble.first import cost as cost\n")
    (package / f"{name}.py").write_text(text)
    return digest(Tree(folder), package / f"{name}.py")


@pytest.mark.parametrize(
    "text",
    [
        "from amble.first import cost as price\n\nX = price()\n",
        "from amble import first\n\nX = first.cost()\n",
        "from amble import first as other\n\nX = other.cost()\n",
        "import amble.first\n\nX = amble.first.cost()\n",
        "import amble.first as other\n\nX = other.cost()\n",
        "from amble.handing import cost\n\nX = cost()\n",
        "from .first import cost\n\nX = cost()\n",
        '"""Words."""\n\nfrom amble.first import cost\n\n__all__ = ["X"]\n\nX = cost()  # why\n',
        "from pathlib import Path\n\nfrom amble.first import cost\n\nROOT = Path(__file__).parent\n\nX = cost()\n",
        "from amble.first import cost\n\nX = cost()\n\nif __name__ == '__main__':\n    main()\n",
    ],
)
def test_the_same_from_the_same_home_is_the_same(tmp_path: Path, text: str) -> None:
    plain = digested(tmp_path / "plain", "from amble.first import cost\n\nX = cost()\n")
    assert digested(tmp_path / "other", text, name="called") == plain


@pytest.mark.parametrize(
    "text",
    [
        "from amble.second import cost\n\nX = cost()\n",
        "from amble import second as first\n\nX = first.cost()\n",
        "def cost():\n    return 1\n\n\nX = cost()\n",
        "from amble.first import cost\n\nX = cost() + 1\n",
        "from amble.first import cost\n\nX = cost\n",
    ],
)
def test_the_same_name_from_elsewhere_and_other_deeds_are_not_the_same(tmp_path: Path, text: str) -> None:
    plain = digested(tmp_path / "plain", "from amble.first import cost\n\nX = cost()\n")
    assert digested(tmp_path / "other", text) != plain


def test_names_of_other_projects_count_by_where_they_come_from(tmp_path: Path) -> None:
    plain = digested(tmp_path / "plain", "from math import log\n\nX = log(2)\n")
    assert digested(tmp_path / "other", "from cmath import log\n\nX = log(2)\n") != plain
    assert digested(tmp_path / "aliased", "from math import log as ln\n\nX = ln(2)\n") == plain


def test_an_argument_that_is_called_like_an_import_is_none(tmp_path: Path) -> None:
    text = "def f(first):\n    return first.cost(), lambda first: first\n"
    plain = digested(tmp_path / "plain", text).partition(".")[0]
    beside = digested(tmp_path / "beside", f"from amble import first\n\n\n{text}").partition(".")[0]
    assert plain == beside


def test_what_only_hands_names_on_has_no_digest(tmp_path: Path) -> None:
    assert digested(tmp_path, '"""Words."""\n\nfrom amble.first import cost as cost\n\n__all__ = ["cost"]\n') == ""


def test_a_docstring_inside_is_dropped_and_a_string_that_is_returned_is_not(tmp_path: Path) -> None:
    plain = digested(tmp_path / "plain", 'def f():\n    """Old."""\n    return "#"\n')
    assert digested(tmp_path / "words", 'def f():\n    # because\n    """New."""\n\n    return "#"\n') == plain
    assert digested(tmp_path / "other", 'def f():\n    """Old."""\n    return "%"\n') != plain


def test_a_pattern_of_files_names_none_of_other_benches(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / "bench" / name).mkdir(parents=True)
        (tmp_path / "bench" / name / "told.py").write_text("X = 1\n")
    mine = tmp_path / "bench" / "mine" / "study.py"
    mine.write_text("from pathlib import Path\n\nSOURCES = sorted(Path(__file__).parent.glob('*.py'))\n")
    assert reached(Tree(tmp_path), mine) == [mine]
