"""A server of several processes: right answers through all of them, whoever dies, and nothing is left at the end."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from amble.core.errors import Refused
from amble.core.schedule import Deadline
from amble.services.serve.doors.access import Keys
from amble.services.serve.front import Doors
from amble.services.serve.models.options import Options
from amble.services.serve.processes.beats import Heart
from amble.services.serve.processes.child import Logs
from amble.services.serve.processes.crew import Crew
from amble.services.serve.processes.engine import nowhere
from amble.services.serve.processes.front import FrontRole, Glance, Shared, plain
from amble.services.serve.processes.member import Member
from amble.services.serve.processes.parent import Wanted, serve_apart
from amble.services.serve.processes.places import places
from amble.services.serve.telling.history import Second
from amble.services.serve.telling.ledger import Ledger
from amble.stages.control.governors import Budget
from amble.stages.control.governors.named import governor as governor_named
from amble.stages.control.governors.named import known
from tests.jobs.serving_process import WIDTH, Process, free_port, slow_network, started
from tests.services.serve.house import loaded
from tests.services.serve.processes.kernel import alive, children, lines, listens, places_of, ticks

AMBLE = str(Path(sys.executable).parent / "amble")
CPUS = sorted(os.sched_getaffinity(0))[:2]
DEVICES = [f"--device=host:{cpu}" for cpu in CPUS]
LARGE = 100_000


def double(path: Path, width: int) -> Path:
    """Write a network that doubles rows of so many numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in "xy")
    made = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("crew")
    double(folder / "models" / "small" / "1" / "model.onnx", 4)
    double(folder / "models" / "large" / "1" / "model.onnx", LARGE)
    slow = slow_network(folder / "slow.onnx", layers=1500)
    command = [AMBLE, "serve", f"slow={slow}", f"--repository={folder / 'models'}", *DEVICES, "--fronts=2", "--json"]
    command += ["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--model-control=explicit", "--max-batch=4"]
    with started(command, folder) as found:
        yield found
        assert found.end(signal.SIGTERM) == 0
        assert children(found.running.pid) == {}


def call(at: Process, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask on a connection of its own, which the kernel gives to either front."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{at.port}{path}", None if body is None else json.dumps(body).encode(), method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def small(at: Process, number: float) -> Any:
    """Have a number doubled."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [number, 0.0, 1.0, -number]}
    return call(at, "POST", "/v2/models/small/infer", {"inputs": [tensor]})


def large(address: str, seed: int) -> bool:
    """Have a large tensor doubled over gRPC; tell whether the answer is right."""
    rows = np.random.default_rng(seed).random((1 + seed % 2, LARGE), dtype=np.float32)
    given = triton.InferInput("x", rows.shape, "FP32")
    given.set_data_from_numpy(rows)
    with triton.InferenceServerClient(address) as client:
        found = client.infer("large", [given]).as_numpy("y")
    return bool(np.array_equal(found, rows + rows))


def page(at: Process) -> dict[str, float]:
    """Return the metrics, each series once."""
    with urllib.request.urlopen(at.ready["metrics"], timeout=20) as answer:  # noqa: S310
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    series = dict(line.rsplit(" ", 1) for line in lines)
    assert len(series) == len(lines), "a series is there twice"
    return {name: float(value) for name, value in series.items()}


def until(true: Any, within_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.02)


def answered(at: Process) -> float:
    return page(at).get('nv_inference_request_success{model="small",version="1"}', 0.0)


def test_answers_are_right_through_all_fronts_and_engines_and_are_counted_once(server: Process) -> None:
    before = answered(server)
    with ThreadPoolExecutor(16) as pool:
        sizes = [pool.submit(large, server.ready["grpc"], seed) for seed in range(40)]
        asked = [(number, pool.submit(small, server, float(number))) for number in range(200)]
        for number, each in asked:
            status, told = each.result()
            assert status == 200, told
            assert told["outputs"][0]["data"] == [2.0 * number, 0.0, 2.0, -2.0 * number]
        assert all(each.result() for each in sizes)
    until(lambda: answered(server) == before + 200)
    found = page(server)
    assert found['nv_inference_pending_request_count{model="small",version="1"}'] == 0
    batches = found['nv_inference_exec_count{model="small",version="1"}']
    assert 0 < batches <= found['nv_inference_count{model="small",version="1"}']
    for _ in range(4):
        told = call(server, "GET", "/v2/models/small/stats")[1]["model_stats"][0]
        assert told["inference_stats"]["success"]["count"] == before + 200, "every front tells of all of them"
    assert len([name for name in found if name.startswith("amble_build_info")]) == len(DEVICES)


def test_every_engine_computes(server: Process) -> None:
    if len(DEVICES) < 2:
        pytest.skip("one CPU, one engine")
    lived = {pid: ticks(pid) for pid, name in children(server.running.pid).items() if "engine" in name}
    with server.asked_by(12) as asked:
        assert [each.result()[0] for each in asked] == [200] * 12
    used = [ticks(pid) - before for pid, before in lived.items()]
    assert min(used) > 0.2 * max(used), used


def test_a_model_that_one_front_loads_is_served_by_all_and_unloaded_by_all(server: Process) -> None:
    assert call(server, "POST", "/v2/repository/models/small/unload", {})[0] == 200
    assert {small(server, 1.0)[0] for _ in range(8)} == {404}
    assert call(server, "POST", "/v2/repository/models/small/load", {})[0] == 200
    assert {small(server, 1.0)[0] for _ in range(8)} == {200}
    status, told = call(server, "POST", "/v2/repository/models/nobody/load", {})
    assert status == 400 or status == 404
    assert "nobody" in told["error"]


def test_who_waits_for_an_engine_that_dies_gets_an_error_and_it_is_replaced(server: Process) -> None:
    before, counted = children(server.running.pid), answered(server)
    with halted(server) as engines, server.asked_by(12) as asked:
        until(lambda: pending(server) == 12)
        for pid in engines:
            os.kill(pid, signal.SIGKILL)
        found = [each.result(120) for each in asked]
    assert {status for status, _ in found} == {503}
    assert all("try again" in told["error"] for _, told in found)
    until(lambda: server.ask()[0] == 200)
    assert answered(server) >= counted, "what was counted stays"
    until(lambda: small(server, 2.0)[0] == 200)
    after = children(server.running.pid)
    assert sorted(after.values()) == sorted(before.values())
    assert not set(engines) & set(after)


@pytest.mark.skipif(len(CPUS) < 2, reason="one engine alone serves meanwhile")
def test_an_engine_that_is_replaced_is_given_nothing_before_it_has_all_models(server: Process) -> None:
    """Those that are loaded meanwhile, too: what an engine had not would be refused by it for ever."""
    known, before = children(server.running.pid), engines_of(server)
    until(lambda: all(lines(pid) == 2 for pid in before))
    assert call(server, "POST", "/v2/repository/models/large/unload", {})[0] == 200
    os.kill(min(before), signal.SIGKILL)
    new = newcomer(server, known)
    assert call(server, "POST", "/v2/repository/models/large/load", {})[0] == 200
    deadline_s = time.monotonic() + 120
    while lines(new) < 2:
        assert time.monotonic() < deadline_s, "it never came back"
        status, told = small(server, 1.0)
        assert status == 200 or "has died" in told["error"], told
    assert {small(server, float(number))[0] for number in range(8)} == {200}
    assert all(large(server.ready["grpc"], seed) for seed in range(8))


def engines_of(at: Process) -> set[int]:
    """Return the numbers of the engines' processes."""
    return {pid for pid, name in children(at.running.pid).items() if "engine" in name}


def test_over_grpc_it_is_unavailable(server: Process) -> None:
    def ask() -> str:
        given = triton.InferInput("x", (1, WIDTH), "FP32")
        given.set_data_from_numpy(np.zeros((1, WIDTH), np.float32))
        with triton.InferenceServerClient(server.ready["grpc"]) as client:
            try:
                client.infer("slow", [given])
            except InferenceServerException as error:
                return str(error.status())
        return "answered"

    until(lambda: server.ask()[0] == 200)
    with halted(server) as engines, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(8)]
        until(lambda: pending(server) == 8)
        for pid in engines:
            os.kill(pid, signal.SIGKILL)
        assert {each.result(120) for each in asked} == {"StatusCode.UNAVAILABLE"}
    until(lambda: server.ask()[0] == 200)


def test_a_front_that_dies_is_replaced_and_its_clients_are_not_left_waiting(server: Process) -> None:
    before = children(server.running.pid)
    fronts = [pid for pid, name in before.items() if "front" in name]
    with halted(server), server.asked_by(12) as asked:
        until(lambda: pending(server) == 12)
        for pid in fronts:
            os.kill(pid, signal.SIGKILL)
        assert all(isinstance(each.exception(120), ConnectionError) for each in asked)
    until(lambda: len(children(server.running.pid)) == len(before))

    def served() -> bool:
        try:
            return bool(small(server, 3.0)[0] == 200)
        except OSError:
            return False

    until(served)
    live = server.ready["metrics"].replace("/metrics", "/v2/health/live")
    with urllib.request.urlopen(live, timeout=5) as answer:  # noqa: S310
        assert answer.status == 200


def test_a_front_that_is_replaced_knows_all_models_before_its_first_client(server: Process) -> None:
    before = children(server.running.pid)
    os.kill(next(pid for pid, name in before.items() if name == "front 1"), signal.SIGKILL)
    new = newcomer(server, before)
    told: set[int] = set()

    def heard() -> bool:
        told.add(quietly(server))
        return listens(new)

    until(heard)
    told |= {quietly(server) for _ in range(60)}
    assert told <= {0, 200}, told


def newcomer(at: Process, before: Collection[int]) -> int:
    """Wait for a child that was not there before."""
    while not (found := set(children(at.running.pid)) - set(before)):
        time.sleep(0.02)
    return found.pop()


def quietly(at: Process) -> int:
    """Have a number doubled → the status; 0 where the connection broke."""
    try:
        return int(small(at, 4.0)[0])
    except OSError:
        return 0


@contextmanager
def halted(at: Process) -> Iterator[list[int]]:
    """Hold all engines still while the block runs, so that nothing is answered; those that live then go on."""
    engines = [pid for pid, name in children(at.running.pid).items() if "engine" in name]
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    yield engines
    for pid in set(engines) & set(children(at.running.pid)):
        os.kill(pid, signal.SIGCONT)


def pending(at: Process) -> float:
    return sum(value for name, value in page(at).items() if name.startswith("nv_inference_pending_request_count"))


def command(model: Path, port: int, *more: str) -> list[str]:
    doors = [f"--http-port={port}", "--grpc-port=-1", "--metrics-port=-1", "--max-batch=1", "--json"]
    return [AMBLE, "serve", f"slow={model}", *DEVICES, "--fronts=1", *doors, *more]


def test_what_was_accepted_is_answered_at_the_end_and_a_second_server_is_refused(tmp_path: Path) -> None:
    model, port = slow_network(tmp_path / "slow.onnx", layers=1500), free_port()
    with started(command(model, port, "--metrics-port=0"), tmp_path) as first:
        second = subprocess.run(command(model, port), capture_output=True, text=True, timeout=180, check=False)
        assert second.returncode == 2
        assert "--http-port" in second.stderr
        assert first.ask()[0] == 200
        with ExitStack() as still:
            still.enter_context(halted(first))
            with first.asked_by(12) as asked:
                until(lambda: pending(first) == 12)
                for pid in (first.running.pid, *children(first.running.pid)):  # as a terminal or systemd does
                    os.kill(pid, signal.SIGTERM)
                until(lambda: not first.is_ready())
                still.close()
                assert [each.result(120)[0] for each in asked] == [200] * 12
        out, _ = first.running.communicate(timeout=30)
        assert first.running.returncode == 0
        assert '"answered":13' in out


def test_a_model_that_cannot_be_loaded_ends_the_start_and_leaves_nobody(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    before = children(os.getpid())
    wanted = Wanted(places(["host"]), 1, Options(), None, {"broken": tmp_path / "broken.onnx"}, None)
    with pytest.raises(Refused, match="cannot load 'broken'"):
        serve_apart(wanted, Doors(http_port=0, grpc_port=None, metrics_port=None))
    assert children(os.getpid()) == before


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    model, port = slow_network(tmp_path / "slow.onnx"), free_port()
    with started(command(model, port), tmp_path) as first:
        own = children(first.running.pid)
        assert len(own) == 1 + len(DEVICES)
        folder = places_of(next(pid for pid, name in own.items() if "engine" in name))[0].parent
        assert folder.is_dir()
        first.end(signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in own))
        assert not folder.exists()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_front_that_is_too_busy_to_say_how_many_wait_is_not_taken_for_idle() -> None:
    """Else the end would come before the answers to what it had accepted."""
    told: Future[Any] = Future()

    class Line:
        def ask(self, name: str, *arguments: Any) -> Future[Any]:
            return told

    front = Member("front 0", cast("Any", None), control=cast("Any", Line()))
    crew = Crew((), (front,), {}, lambda member: None, lambda index: None)
    crew.gather()
    assert not crew.quiet
    for pending in (1, 0):
        told = Future()
        told.set_result(Glance(Ledger(), Second(), pending))
        crew.gather()
        assert crew.quiet == (pending == 0)


def test_a_log_is_refused_with_the_remedy(tmp_path: Path) -> None:
    model = slow_network(tmp_path / "slow.onnx")
    log = f"--log={tmp_path / 'log.json'}"
    found = subprocess.run(command(model, 0, log), capture_output=True, text=True, timeout=180, check=False)
    assert found.returncode == 2
    assert "--fronts 0" in found.stderr


def test_keys_and_certificates_reach_the_fronts(tmp_path: Path) -> None:
    given = Keys(None, "a-key-that-is-long-enough")
    doors = plain(Doors(keys=given, control=True, hosts=("name",)))
    role = FrontRole(doors, 0, 4, (), Shared(0, 0, b""), {}, None, False, Logs(()), Heart(0, 0, 0))
    sent: FrontRole = pickle.loads(pickle.dumps(role))  # noqa: S301
    found = sent.opened_doors()
    assert found.keys is not None
    assert found.keys.know("a-key-that-is-long-enough")
    assert not found.keys.know("another-key-long-enough")
    assert found.control
    assert found.hosts == ("name",)
    assert found.room_bytes == 64 << 20, "a fourth of the room"


@pytest.mark.parametrize("name", known())
def test_what_is_told_of_a_model_can_be_sent_whichever_governor_it_has(name: str) -> None:
    made = loaded({"x": "float"})
    governor = governor_named(name)(made.ladder, Deadline(0.1), Budget(0.0))
    told = replace(made, governor=governor, graph=nowhere)
    found = pickle.loads(pickle.dumps(told))  # noqa: S301
    assert found.ladder == told.ladder
    assert found.governor.name == governor.name
