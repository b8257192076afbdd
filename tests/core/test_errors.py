"""What errors tell their reader to do."""

import re
from pathlib import Path

import pytest

from amble.core.errors import how_to_install

ROOT = Path(__file__).parents[2]
PUBLISHED = re.compile(r"pip install (?:-U |--upgrade )?'?amble\b|amble\[\w")


def test_an_extra_is_installed_from_the_folder_this_runs_from() -> None:
    assert how_to_install("serve") == f"run make setup in {ROOT}, or there pip install -e '.[serve]'"


@pytest.mark.parametrize("folder", ["src", "docs", "examples", "README.md"])
def test_nothing_tells_anybody_to_install_a_package_that_is_not_published(folder: str) -> None:
    place = ROOT / folder
    texts = [each for each in place.rglob("*.*") if each.suffix in (".py", ".md")] if place.is_dir() else [place]
    assert texts
    assert [each.name for each in texts if PUBLISHED.search(each.read_text())] == []
