"""The emulated card, in a process of its own: a process can have one libnvidia-ml.so.1."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile the card's library"),
    pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs nvidia-ml-py (amble[nvidia])"),
]


def test_every_case_holds_on_an_emulated_card(tmp_path):
    environment = {**os.environ, "AMBLE_EMULATED_CARD": str(tmp_path / "card")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/devices/emulated/cases.py"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_card_is_made_by_the_command_line_and_then_seen(tmp_path):
    command = [sys.executable, "-m", "amble.devices.emulated", "a100", str(tmp_path / "card"), "--slower", "0"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert made.stdout == f"export AMBLE_EMULATED_CARD={tmp_path / 'card'}\n"
    environment = {**os.environ, "AMBLE_EMULATED_CARD": str(tmp_path / "card")}
    code = "from amble.devices import nvml; d = nvml.describe()[0]; print(d.calibration, d.clocks)"
    seen = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "emulated Emulated a100: core 81 levels" in seen.stdout


def test_an_unknown_chip_and_a_folder_without_a_card_are_refused(tmp_path):
    command = [sys.executable, "-m", "amble.devices.emulated", "v10", str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 2
    assert "did you mean v100" in made.stderr
    code = "import amble; amble.open('nvml:0')"
    environment = {**os.environ, "AMBLE_EMULATED_CARD": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "python -m amble.devices.emulated" in done.stderr
