"""A GPU serves: its clocks are chosen under a lease, its joules told, and its clocks put back whatever the end."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.devices.emulated import Card, State, make, opened
from amble.inputs import open_for_serving
from tests.jobs.serving_process import Process, slow_network, started

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile the card's library"),
    pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs nvidia-ml-py (amble[nvidia])"),
]
AMBLE = str(Path(sys.executable).parent / "amble")


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = make(Card("v100", slower=1.0), tmp_path / "card")
    monkeypatch.setenv("AMBLE_EMULATED_CARD", str(place))
    return place


def locked(card: Path) -> bool:
    with opened(card) as state:
        found: State = state
        return bool(found.core_lock)


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.02)


@pytest.mark.parametrize(("end", "fronts"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
def test_a_card_serves_and_its_clocks_are_put_back(
    tmp_path: Path, card: Path, end: signal.Signals, fronts: int
) -> None:
    model = slow_network(tmp_path / "slow.onnx", layers=4)
    command = [AMBLE, "serve", f"slow={model}", "--device=nvml:0", "--slo=2s", "--max-batch=1", "--json"]
    command += [f"--fronts={fronts}", "--http-port=0", "--grpc-port=-1", "--metrics-port=-1"]
    assert not locked(card)
    with started(command, tmp_path) as server:
        found = asked(server)
        assert found["energy_j"] > 0
        assert found["core_hz"] > 0
        until(lambda: bool(asked(server)) and locked(card))
        server.end(end)
        until(lambda: not locked(card))


def asked(server: Process) -> dict[str, float]:
    status, told = server.ask()
    assert status == 200, told
    parameters: dict[str, float] = told["parameters"]
    return parameters


def test_a_card_in_a_time_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMBLE_EMULATED_CARD", str(make(Card("v100", slower=50.0), tmp_path / "card")))
    with pytest.raises(Refused, match="--slower 1"):
        open_for_serving("nvml:0")
