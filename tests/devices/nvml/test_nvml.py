"""The NVML back end over the real nvidia-ml-py and a fake ``libnvidia-ml.so.1`` that is compiled here."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amble.devices.emulated.state import build
from tests.devices.over_fake_nvml.fake_gpu import HOPPER, FakeGpu

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile the fake library"),
    pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs nvidia-ml-py (the extra nvidia)"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a process that sees one fake GPU."""
    folder = tmp_path_factory.mktemp("nvml")
    build(folder)
    FakeGpu(folder).reset(**HOPPER)
    return {**os.environ, "AMBLE_EMULATED_CARD": str(folder)}


def run(environment, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


def test_every_case_holds_over_the_fake_library(environment):
    done = run(environment, "tests/devices/over_fake_nvml/cases.py")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_conformance_holds_over_the_fake_library(environment):
    done = run(environment, "tests/devices/conformance", "-k", "nvml")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_machine_without_a_driver_says_so(environment):
    code = "from amble.devices import nvml; print(nvml.describe()[0].missing[0])"
    nowhere = {name: value for name, value in environment.items() if name != "AMBLE_EMULATED_CARD"}
    done = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True, check=True)
    assert "NVML does not start" in done.stdout
    assert "driver" in done.stdout
