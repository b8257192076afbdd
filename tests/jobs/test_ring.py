"""The ring is closed: measure → fit → plan → serve → log → check, and from that log fit → plan again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amble
from amble import bundled
from amble.core import files
from amble.core.errors import Refused
from amble.core.log import FORMAT, Log
from amble.core.schedule import Deadline, Schedule
from amble.devices import simulated
from amble.runtimes.onnx.batched import BatchedRunner
from amble.runtimes.remote import client
from amble.services.serve.front import Addresses, Doors
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Model
from amble.services.serve.models.options import Options
from amble.services.serve.telling.recording import Recorder
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Batch, Engine
from amble.stages.control.source import Replay
from amble.stages.fit.costs import Costs

DEVICE = "sim:jetson-orin-nano"
DEADLINE = Deadline(0.05, 0.9)
DOORS = Doors(http_port=0, grpc_port=None, metrics_port=None)


def served(models: tuple[str, ...], log: Path, requests: int, **options: Any) -> None:
    """Serve on a simulated chip, one request after another, and keep the log."""
    ready: list[Any] = []
    opened = threading.Event()

    def on_ready(addresses: Addresses, stop: Callable[[], object]) -> None:
        ready.extend((addresses, stop))
        opened.set()

    wanted = {"device": DEVICE, "doors": DOORS, "log": log, "on_ready": on_ready, **options}
    thread = threading.Thread(target=amble.serve, args=(models,), kwargs=wanted)
    thread.start()
    assert opened.wait(60), "the server did not start"
    try:
        remote = client.Remote.at(f"{ready[0].http}/v2/models/{ready[0].models[0].split()[0]}", timeout_s=30.0)
        image = bundled.model_input(bundled.fashion_mnist("test")[0][:1])
        inputs = remote.inputs()
        body = client.body_of({inputs[0].name: image}, inputs, binary=False, timeout_s=10.0)
        for _ in range(requests):
            assert remote.call("POST", f"{remote.path}/infer", body).status == 200
    finally:
        ready[1]()
        thread.join(30)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Schedule, Path]:
    """A punctual plan made by measuring and fitting, and its file."""
    folder = tmp_path_factory.mktemp("plan")
    graph = amble.load("fashion-resnet")
    costs = amble.fit(amble.measure(graph, amble.open(DEVICE), points=6))
    schedule = amble.plan(graph, costs, deadline=DEADLINE, planner="punctual")
    amble.save(schedule, folder / "plan.json")
    return schedule, folder / "plan.json"


class Told:
    """A sink that passes on to a recorder what a server's admission would."""

    def __init__(self, recorder: Recorder, model: Model) -> None:
        self.recorder, self.model = recorder, model

    def answered(self, batch: Batch) -> None:
        self.recorder.ran(self.model, batch)

    def refused(self, request: Request, refusal: Refusal) -> None:
        self.recorder.refused(self.model, request, refusal.cause)


def replayed(model: Path, log: Path, arrivals_s: list[float], *, device_s: float, **options: Any) -> None:
    """Serve as the server does, in the simulated chip's own time: what it takes is then no matter of this machine."""
    device = simulated.open(DEVICE.partition(":")[2])
    loader = ModelLoader(device, BatchedRunner(), Options(**options), DEADLINE, by_size=True)
    found = Found("net", "1", model)
    ready = Model(found, loader.load(found, lambda work: work()))
    recorder = Recorder(device, lambda _: log, deadline=DEADLINE)
    engine = Engine(device, [ready.lane()], Told(recorder, ready), noting=recorder.detailed)
    start_s = device.clock.now_s()
    came_s = np.array(arrivals_s) + start_s
    engine.run(Replay(came_s, device.clock, deadline_s=device_s, model=ready.key))
    recorder.close()


@pytest.fixture(scope="module")
def kept(planned: tuple[Schedule, Path]) -> Path:
    """The log of an engine that followed the plan, with one request that could not be answered in time."""
    path = planned[1].with_name("log.json")
    arrivals_s = [0.1 + 0.06 * index for index in range(40)]
    replayed(planned[1], path, arrivals_s, device_s=DEADLINE.latency_s)
    return path


def test_a_plan_that_is_served_leaves_a_log_that_check_judges_by_it(planned: tuple[Schedule, Path], kept: Path) -> None:
    log = files.load(kept, FORMAT)
    assert (len(log.served), log.subject.digest, log.where.device) == (
        40,
        planned[0].subject.digest,
        planned[0].where.device,
    )
    found = amble.check(kept)
    assert found.schedule == planned[0]
    (prediction, *_) = found.report.policies[0].predictions
    assert prediction.measured == pytest.approx(prediction.predicted, rel=0.1)
    assert (found.report.policies[0].late.count, found.report.policies[0].late.out_of) == (0, 40)


def test_a_log_is_held_to_another_deadline_when_asked(kept: Path) -> None:
    assert amble.check(kept, deadline="0.1ms@p90").report.verdict == "FAIL"
    assert amble.check(kept, deadline="60s@p90").report.verdict == "PASS"


def test_a_log_is_fitted_and_planned_again_from_what_ran(planned: tuple[Schedule, Path], kept: Path) -> None:
    costs = amble.fit(kept)
    assert isinstance(costs, Costs)
    again = amble.plan(amble.load("fashion-resnet"), costs, deadline=DEADLINE, period_s=0.06)
    assert again.subject.digest == planned[0].subject.digest
    assert again.predicted.latency_s == pytest.approx(planned[0].predicted.latency_s, rel=0.1)
    assert {step.point.clocks for step in again.steps} == {step.point.clocks for step in planned[0].steps}
    spent_j = float(costs.arrays().energy_j.sum())
    assert spent_j == pytest.approx(sum(step.predicted.energy_j or 0.0 for step in planned[0].steps), rel=0.15)


def test_a_served_network_leaves_a_log_of_every_setting_that_its_governor_chose(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    arrivals_s = np.cumsum(np.random.default_rng(0).exponential(0.004, 300)).tolist()
    replayed(bundled.model_path(), path, arrivals_s, device_s=0.02, max_batch=1)
    costs = amble.fit(path)
    assert isinstance(costs, Costs)
    assert costs.subject.digest == amble.load("fashion-resnet").digest
    again = amble.plan(amble.load("fashion-resnet"), costs, deadline=Deadline(0.02), period_s=0.02, planner="single")
    assert again.predicted.latency_s < 0.02


def test_refused_requests_are_late_in_the_verdict_on_a_log(planned: tuple[Schedule, Path], tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    replayed(planned[1], path, [0.1] * 400, device_s=DEADLINE.latency_s)
    found = amble.check(path)
    refused = [each for each in files.load(path, FORMAT).served if each.refused]
    assert 0 < len(refused) < 400
    assert found.report.policies[0].late.count >= len(refused)
    assert found.report.verdict == "FAIL"
    assert any("were refused and count as late" in note for note in found.report.notes)


def test_a_server_over_http_keeps_the_log_it_was_asked_for(planned: tuple[Schedule, Path], tmp_path: Path) -> None:
    served((f"planned={planned[1]}",), tmp_path / "log.json", 12)
    found = amble.check(tmp_path / "log.json", deadline="60s@p50")
    assert found.report.verdict == "PASS"
    assert found.report.policies[0].late.out_of == 12


def test_a_log_without_an_objective_is_refused_with_a_way_out(kept: Path, tmp_path: Path) -> None:
    log = files.load(kept, FORMAT)
    bare = Log(**{name: getattr(log, name) for name in log.__slots__ if name not in ("schedule", "deadline", "known")})
    files.save(bare, tmp_path / "bare.json", FORMAT)
    with pytest.raises(Refused, match="--deadline"):
        amble.check(tmp_path / "bare.json")
    with pytest.raises(Refused, match="does not say what ran"):
        amble.fit(tmp_path / "bare.json")
