"""A board whose clocks cannot be locked is governed by its power limit, which comes back: over the fake NVML."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amble.devices.emulated.state import build
from tests.cli.test_governing import Pages
from tests.devices.over_fake_nvml.fake_gpu import HOPPER, FakeGpu

AMBLE = str(Path(sys.executable).parent / "amble")
FOUND_MW = 650_000
NOT_SUPPORTED = 3

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile the fake library"),
    pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs nvidia-ml-py (the extra nvidia)"),
]


@pytest.fixture
def pages():
    found = Pages()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def card(tmp_path):
    build(tmp_path)
    gpu = FakeGpu(tmp_path)
    gpu.reset(**HOPPER)
    gpu.set(management_mw=FOUND_MW, limit_mw=FOUND_MW)
    gpu.refuse(nvmlDeviceSetGpuLockedClocks=NOT_SUPPORTED)
    return gpu


def governing(url: str, tmp_path: Path, device: str, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "AMBLE_EMULATED_CARD": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "leases")}
    words = [AMBLE, "govern", url, "--slo", "latency p99 < 100ms", "--device", device, "--period", "100ms", *more]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def becomes(true, limit_s=30.0) -> bool:
    until_s = time.monotonic() + limit_s
    while not true() and time.monotonic() < until_s:
        time.sleep(0.01)
    return true()


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_the_power_limit_goes_down_and_comes_back(card, pages, tmp_path, ends):
    process = governing(pages.url, tmp_path, "nvml:0/power", "--control", "0")
    try:
        assert becomes(lambda: 0 < card.get("management_mw") < FOUND_MW), process.stderr.read()
        assert card.get("core_lock") == 0
        process.send_signal(ends)
        assert becomes(lambda: card.get("management_mw") == FOUND_MW)
    finally:
        process.kill()
        process.communicate()


def test_clocks_that_cannot_be_locked_are_refused_with_what_can_be_done(card, pages, tmp_path):
    process = governing(pages.url, tmp_path, "nvml:0")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "--device nvml:0/power" in said
    assert card.get("management_mw") == FOUND_MW


def test_another_knob_of_a_board_is_refused(card, pages, tmp_path):
    process = governing(pages.url, tmp_path, "nvml:0/volts")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "nvml:0/power" in said
