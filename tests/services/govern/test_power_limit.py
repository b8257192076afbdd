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

import amble
from amble.core import files
from amble.core.log import FORMAT as LOG
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


@pytest.mark.parametrize(("knob", "code"), [("power_limit_w", 0), ("core_hz", 2)])
def test_a_fit_of_the_same_knob_is_taken_and_one_of_another_refused(card, pages, tmp_path, knob, code):
    levels = {"power_limit_w": (200, 300, 400, 500, 600, 700), "core_hz": (5e8, 8e8, 1.1e9, 1.4e9, 1.7e9, 2e9)}[knob]
    rows = [f"device,workload,{knob},latency_s,power_w"]
    rows += [f"h200,m,{each},{0.01 * levels[-1] / each},{700 * each / levels[-1]}" for each in levels]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    amble.save(amble.fit(tmp_path / "table.csv"), tmp_path / "costs.json")
    log = tmp_path / "log.json"
    more = ("--costs", str(tmp_path / "costs.json"), "--control", "0", "--for", "3s", "-o", str(log))
    _, said = governing(pages.url, tmp_path, "nvml:0/power", *more).communicate(timeout=120)
    assert card.get("management_mw") == FOUND_MW
    if code == 0:
        governed = files.load(log, LOG).governed
        ratios = [governed.settings[0].power_limit_w / each.power_limit_w for each in governed.settings]
        assert [slow for (slow,) in governed.slowness] == pytest.approx(ratios, rel=0.05), "as the fit has it"
    else:
        assert "does not vary power_limit_w" in said


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
