"""What the documents say is true: their links, commands and code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()
AMBLE = Path(sys.executable).parent / "amble"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    broken = [each for each in targets if "://" not in each and not (page.parent / each).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:src|bench|docs|examples|tools)/[\w./-]+)`", page.read_text())
    missing = [each for each in named if not (ROOT / each).exists()]
    assert not missing


def verbs() -> list[str]:
    text = subprocess.run([AMBLE, "--help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  ([a-z]+)  ", text.partition("Commands:")[2], re.MULTILINE)


def test_no_verb_is_undocumented() -> None:
    written = "\n".join(page.read_text() for page in PAGES)
    assert [verb for verb in verbs() if f"amble {verb}" not in written] == []


def test_no_verb_is_documented_that_does_not_exist() -> None:
    blocks = re.findall(r"```\n(.*?)```", "\n".join(page.read_text() for page in PAGES), re.DOTALL)
    commands = set(re.findall(r"^amble ([a-z]+) ", "\n".join(blocks), re.MULTILINE))
    assert commands <= set(verbs())


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"`?make ([a-z-]+)`?", README))
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets
    assert targets <= rules


def test_the_readme_s_python_runs(tmp_path: Path) -> None:
    """The only change: the user's own model and a looser deadline become the bundled ones."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace('"model.onnx"', '"synthetic:8"').replace("0.030", "1.0")
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "distance from the optimum" in found.stdout
