"""Each kind of addition, tried once on a copy of the source: what it takes is what the architecture page says.

Devices and governors of other packages need no copy: they inherit the suites of `amble.testing`, and register.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's source and contracts, to add to."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def put(path: Path, before: str, after: str) -> None:
    """Replace what must be there exactly once."""
    text = path.read_text()
    assert text.count(before) == 1, f"{before!r} is there {text.count(before)} times"
    path.write_text(text.replace(before, after))


def run(copy: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=copy)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contracts(copy: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=copy)


def test_a_chip_is_one_file(copy: Path) -> None:
    chips = copy / "src/amble/devices/simulated/chips"
    shutil.copy(chips / "jetson-tx2.toml", chips / "trial.toml")
    said = run(
        copy, "import amble; device = amble.open('sim:trial'); device.clock.sleep(1); print(device.meter.read())"
    )
    assert "energy_j=" in said
    assert "sim:trial" in run(copy, "import amble; print([each.name for each in amble.devices()])")


def test_a_law_is_one_function_and_one_line_in_each_table(copy: Path) -> None:
    laws, models = copy / "src/amble/stages/fit/laws.py", copy / "src/amble/stages/fit/models.py"
    law = (
        "def flat(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:\n"
        '    """The mean, whatever the clocks."""\n'
        '    return Curve("flat", (values.mean(),), lambda at: np.full(len(at), values.mean()))\n\n\n'
    )
    put(laws, "TIME_LAWS: dict[str, Law] = {\n", f'{law}TIME_LAWS: dict[str, Law] = {{\n    "flat": flat,\n')
    put(models, '    "han": ("han", "cube"),\n', '    "han": ("han", "cube"),\n    "flat": ("flat", "interpolate"),\n')
    code = (
        "import numpy as np\n"
        "from amble.stages.fit.models import MODELS, Measured, predict\n"
        "points = np.array([[1e9], [2e9]])\n"
        "measured = Measured(('core_hz',), points, np.array([[1.0, 3.0]]), np.array([[5.0, 5.0]]))\n"
        "print('flat' in MODELS, predict('flat', measured, at=points).latency_s.tolist())\n"
    )
    assert run(copy, code) == "True [[2.0, 2.0]]\n"


def list_trial(copy: Path, room: str) -> None:
    """Add the one word to the contract of a room whose parts do not import one another."""
    project = copy / "pyproject.toml"
    text, count = re.subn(
        rf'(layers = \[(?:[^\]]*, )?"[^"\]]*)("\]\ncontainers = \["amble.{room}"\])',
        r"\1 | trial\2",
        project.read_text(),
    )
    assert count == 1
    project.write_text(text)


@pytest.mark.parametrize("room", ["levers", "services"])
def test_a_lever_or_a_service_is_one_folder_and_one_word_in_the_contract(copy: Path, room: str) -> None:
    folder = copy / "src/amble" / room / "trial"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""A lever or service on trial."""\n\nfrom amble.inputs import load\n')
    assert "trial" in contracts(copy).stdout, "nobody may live here who is not listed"
    list_trial(copy, room)
    done = contracts(copy)
    assert done.returncode == 0, done.stdout


def test_a_lever_that_leans_on_another_is_refused(copy: Path) -> None:
    folder = copy / "src/amble/levers/trial"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""A lever on trial."""\n\nfrom amble.levers.precision import half\n')
    list_trial(copy, "levers")
    done = contracts(copy)
    assert done.returncode != 0
    assert "amble.levers.trial -> amble.levers.precision" in done.stdout
