"""The guide to splitting works as written. The only change: a small network."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from amble.levers.split.cuts import MOST
from tests.runtimes import models

GUIDE = (Path(__file__).parents[1] / "docs" / "split.md").read_text()
AMBLE = Path(sys.executable).parent / "amble"


def test_every_step_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models.saved(tmp_path, models.cnn())
    commands = re.findall(r"^amble .*$", GUIDE, re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        found = subprocess.run([AMBLE, *shlex.split(line)[1:]], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        assert "The best cut by link rate" in found.stdout
    assert (tmp_path / "halves" / "split.json").exists()


def test_what_the_guide_names_is_there() -> None:
    options = subprocess.run([AMBLE, "split", "--help"], capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"--[a-z][a-z-]+", GUIDE))
    assert named
    assert {each for each in named if each not in options} == set()
    assert f"more than {MOST} cuts" in GUIDE
