"""A split that runs: two processes answer together, and whatever happens to server and link no request is lost."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.core.log import Log
from amble.core.schedule import Deadline
from amble.jobs.cooperating import Cooperation, run
from amble.jobs.splitting import Wanted, split, write
from amble.levers.split.link import Link, Radio
from amble.levers.split.ran import Journal, Ran, place_of
from amble.levers.split.results import Split
from amble.levers.split.steering import Rules, replay
from tests.jobs.plain_server import plain_server
from tests.jobs.relay import Relay, relayed
from tests.jobs.serving_process import Process, free_port, started
from tests.runtimes import models

AMBLE = Path(sys.executable).parent / "amble"
PERIOD_S = 0.05
READY = Rules(gain=0.004)  # to move for little: the device idles most of the time, which no cut changes


def deep(folder: Path) -> Path:
    """A large input, little after its first operators, and work in the rest: made to be cut after them."""
    layers, rows, width = 5, 8, 1024
    nodes = [
        models.node("Conv", ["x", "w1"], ["c1"], kernel_shape=[4, 4], strides=[4, 4]),
        models.node("Relu", ["c1"], ["r1"]),
        models.node("Reshape", ["r1", "shape"], ["h0"]),
    ]
    nodes += [models.node("MatMul", [f"h{index}", "w2"], [f"h{index + 1}"]) for index in range(layers)]
    nodes.append(models.node("MatMul", [f"h{layers}", "w3"], ["y"]))
    shape = numpy_helper.from_array(np.array([1, rows, width]), "shape")
    weights = [
        models.weight("w1", 8, 3, 4, 4),
        models.weight("w2", width, width),
        models.weight("w3", width, 10),
        shape,
    ]
    inputs, outputs = [models.value("x", [1, 3, 128, 128])], [models.value("y", [1, rows, 10])]
    return models.saved(folder, models.model(nodes, inputs, outputs, weights), "deep.onnx")


def planned(folder: Path, *, crossing: tuple[str, ...] = ("fp32",)) -> Path:
    folder.mkdir(exist_ok=True)
    link = Link(2e7, 0.002, Radio("test", 0.02))
    asked = Wanted(
        str(deep(folder)), "sim:snapdragon-phone-gpu", "8x", link, Deadline(0.5), crossing=crossing, moving=True
    )
    write(*split(asked), folder)
    return folder / "split.json"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planned(tmp_path_factory.mktemp("fp32"))


@contextmanager
def serving(repository: Path, state: Path, port: int = 0) -> Iterator[Process]:
    words = ["serve", "--repository", str(repository), "--http-port", str(port)]
    with started([str(AMBLE), *words, "--grpc-port", "-1", "--metrics-port", "-1", "--json"], state) as server:
        yield server


@pytest.fixture(scope="module")
def server(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(plan.parent / "repository", tmp_path_factory.mktemp("state")) as found:
        yield found


Do = dict[int, Callable[[], object]]


def ran(plan: Path, port: int, requests: int, do: Do | None = None, **others: object) -> tuple[Ran, Log, Journal]:
    """Run, and do things after so many requests."""

    def on_progress(done: int, total: int, stage: str) -> None:
        if do and done in do:
            do[done]()

    load = f"periodic:{1e3 * PERIOD_S:g}ms:{requests}"
    asked = Cooperation(plan, f"http://127.0.0.1:{port}", load=load, compare=True, rules=READY)
    return run(replace(asked, **others), on_progress)  # type: ignore[arg-type]


def together(found: Ran) -> int:
    return sum(each.num_requests for each in found.shares if each.name)


def answered_all(found: Ran, log: Log, requests: int) -> None:
    """Every request has its answer, which is the whole network's to the bit, and what was late is told."""
    assert found.num_requests == len(log.served) == found.num_compared == requests
    assert sum(each.num_requests for each in found.shares) == requests
    assert (found.num_identical, found.num_different, found.max_deviation) == (requests, 0, 0.0)
    assert found.num_late == sum(each.finish_s > each.deadline_s for each in log.served)
    assert not any(each.refused for each in log.served)


def around_the_first_failure(journal: Journal) -> tuple[list[int], list[int]]:
    """Return the options decided before the server first failed, and after."""
    failed = next(at for at, each in enumerate(journal.seen) if each.what in ("failure", "late"))
    count = sum(each.what == "request" for each in journal.seen[:failed])
    decided = [each.option for each in journal.decisions]
    return decided[:count], decided[count:]


def test_both_answer_as_the_whole_network_to_the_bit_and_the_log_is_checked(
    plan: Path, server: Process, tmp_path: Path
) -> None:
    found, log, journal = ran(plan, server.port, 60)
    answered_all(found, log, 60)
    assert together(found) > 0
    assert found.energy_j is not None
    assert found.energy_j > 0
    assert found.radio_j > 0
    assert replay(journal.steering, journal.start_s, journal.seen) == list(journal.decisions)
    for artefact, name in ((found, "ran.json"), (log, "log.json"), (journal, "journal.json")):
        amble.save(artefact, tmp_path / name)
        assert amble.read(tmp_path / name) == artefact
    verdict = amble.check(tmp_path / "log.json").report.verdict
    assert verdict in ("INCONCLUSIVE", "PASS") if found.num_late == 0 else verdict == "FAIL"
    (table,) = amble.show(found)
    assert "60 requests" in table.title
    assert any("moves of the cut" in note for note in table.notes)


def test_a_server_that_is_killed_and_started_again_costs_no_answer(plan: Path, server: Process, tmp_path: Path) -> None:
    """Killed under way, refused connections, then another process in its place."""
    with serving(plan.parent / "repository", tmp_path) as first, relayed(first.port) as relay:
        do: Do = {30: lambda: first.end(signal.SIGKILL), 45: lambda: relay.lead(server.port)}
        found, log, journal = ran(plan, relay.port, 130, do)
    answered_all(found, log, 130)
    before, after = around_the_first_failure(journal)
    assert any(before)
    assert found.num_fallen_back <= 5, "once it is known to be gone nothing is decided for it"
    assert after[0] == 0
    assert any(after), "it came back by proving its halves again"


def test_a_link_that_stops_drops_and_slows_costs_no_answer(plan: Path, server: Process) -> None:
    with relayed(server.port) as relay:
        do: Do = {30: relay.open.clear, 55: relay.open.set, 130: relay.drop, 135: relay.drop, 160: slow(relay)}
        found, log, journal = ran(plan, relay.port, 190, do)
    answered_all(found, log, 190)
    before, after = around_the_first_failure(journal)
    assert any(before)
    assert after[0] == 0, "the link was cut"
    assert any(after), "it was used again"
    assert after[-1] == 0, "too slow to be in time"


def slow(relay: Relay) -> Callable[[], None]:
    return lambda: setattr(relay, "rate_bit_s", 2e4)


def test_a_server_that_holds_another_version_under_the_name_is_refused(plan: Path, tmp_path: Path) -> None:
    name = json.loads(plan.read_text())["split"]["pairs"][1]["name"]
    false = tmp_path / "repository"
    shutil.copytree(plan.parent / "repository" / name, false / name)
    model = onnx.load(false / name / "1" / "model.onnx")
    weight = next(each for each in model.graph.initializer if each.name == "w3")
    weight.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(weight), "w3"))
    onnx.save(model, false / name / "1" / "model.onnx")
    with serving(false, tmp_path) as server, pytest.raises(Refused, match=rf"another version of {name}: it serves"):
        ran(plan, server.port, 5)


def test_a_server_of_something_else_is_refused(plan: Path, tmp_path: Path) -> None:
    with plain_server(tmp_path) as port, pytest.raises(Refused, match=r"serves no half of this plan .*not here"):
        ran(plan, port, 5)


def test_a_server_that_tells_nothing_is_believed_by_name_and_answer(plan: Path) -> None:
    """Plain JSON, no hashes, no codings, no statistics."""
    with plain_server(plan.parent / "repository") as port:
        found, log, _ = ran(plan, port, 60)
    answered_all(found, log, 60)
    assert together(found) > 0
    assert found.num_packed == 0
    with plain_server(plan.parent / "repository", scale=1.001) as port, pytest.raises(Refused, match="not that of the"):
        ran(plan, port, 5)


def test_a_server_that_is_not_there_leaves_all_to_the_device(plan: Path) -> None:
    found, log, _ = ran(plan, free_port(), 10)
    answered_all(found, log, 10)
    assert together(found) == 0
    assert any("did not answer at the start" in note for note in found.notes)


def test_without_a_server_all_runs_here(plan: Path) -> None:
    found, log, _ = ran(plan, 0, 5, server=None)
    answered_all(found, log, 5)
    assert together(found) == 0


def test_on_another_device_its_own_times_are_measured(plan: Path, server: Process) -> None:
    found, log, _ = ran(plan, server.port, 40, device="host")
    answered_all(found, log, 40)
    assert any("has not the clocks of the plan" in note for note in found.notes)


def test_what_crosses_in_int8_is_within_its_tolerance_and_packed_where_that_is_sooner(tmp_path: Path) -> None:
    plan = planned(tmp_path / "plan", crossing=("int8",))
    with serving(plan.parent / "repository", tmp_path) as server, relayed(server.port) as relay:
        relay.rate_bit_s = 4e6
        found, log, _ = ran(plan, relay.port, 60)
    assert found.num_requests == found.num_compared == len(log.served) == 60
    assert found.num_different == 0
    assert found.max_deviation > 0
    assert together(found) > 0
    assert found.num_packed > 0


def test_a_half_that_was_changed_is_refused(plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    shutil.copytree(plan.parent, folder)
    half = next(folder.glob("repository/*/1/model.onnx"))
    half.write_bytes(half.read_bytes() + b" ")
    with pytest.raises(Refused, match=r"model\.onnx is not the half that the plan was made with"):
        run(Cooperation(folder / "split.json"))


def test_halves_larger_than_the_memory_are_refused(plan: Path) -> None:
    with pytest.raises(Refused, match=r"take about .* MB, and 0 MB of memory are free"):
        run(Cooperation(plan), memory_bytes=1e4)


def test_a_split_that_was_only_printed_cannot_be_run(plan: Path, tmp_path: Path) -> None:
    made = amble.read(plan)
    assert isinstance(made, Split)
    amble.save(replace(made, whole=None, pairs=()), tmp_path / "split.json")
    with pytest.raises(Refused, match="holds a split without halves"):
        run(Cooperation(tmp_path / "split.json"))


def test_the_verb_ends_with_exit_codes_and_keeps_its_log_when_interrupted(
    plan: Path, server: Process, tmp_path: Path
) -> None:
    words = ["run", "--plan", str(plan), "--server", f"http://127.0.0.1:{server.port}", "--json"]
    done = CliRunner().invoke(main, [*words, "--load", "periodic:50ms:10"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["num_requests"] == 10
    wrong = CliRunner().invoke(main, ["run", "--plan", str(plan), "--server", "ftp://x"])
    assert wrong.exit_code == 2
    assert "is not like http://" in wrong.stderr
    log = tmp_path / "log.json"
    long = [str(AMBLE), *words, "--load", "periodic:50ms:100000", "--log", str(log)]
    with subprocess.Popen(long, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stderr is not None
        told_of = (line for line in running.stderr if b"answering" in line and b"asking" not in line)
        assert b"about" in next(told_of), "the time left"
        running.send_signal(signal.SIGINT)
        told, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert json.loads(told)["interrupted"] is True
    kept = amble.read(log)
    assert isinstance(kept, Log)
    assert 10 < len(kept.served) < 1000


def renamed(document: dict[str, Any]) -> object:
    return {**document, "outputs": [{**each, "name": "other"} for each in document["outputs"]]}


def flat(document: dict[str, Any]) -> object:
    return {**document, "outputs": [{**each, "shape": [len(each["data"])]} for each in document["outputs"]]}


def whole_numbers(document: dict[str, Any]) -> object:
    outputs = [{**each, "datatype": "INT32", "data": [int(at) for at in each["data"]]} for each in document["outputs"]]
    return {**document, "outputs": outputs}


def nothing(document: dict[str, Any]) -> object:
    return {**document, "outputs": []}


def no_numbers(document: dict[str, Any]) -> object:
    outputs = [{**each, "data": [float("nan")] * len(each["data"])} for each in document["outputs"]]
    return {**document, "outputs": outputs}


def endless(document: dict[str, Any]) -> object:
    return {**document, "parameters": {"service_s": 10**400}}


def of_the_one_before() -> Callable[[dict[str, Any]], object]:
    kept: list[dict[str, Any]] = []

    def said(document: dict[str, Any]) -> object:
        kept.append(document)
        return kept[max(0, len(kept) - 2)]

    return said


@pytest.mark.parametrize("spoil", [nothing, renamed, flat, whole_numbers, no_numbers, endless, of_the_one_before()])
def test_what_is_no_answer_of_this_half_to_this_request_is_never_taken_for_one(
    plan: Path, spoil: Callable[[dict[str, Any]], object]
) -> None:
    """A server that proved itself, and then says something else."""
    spoiled = Event()

    def say(document: dict[str, Any]) -> object:
        return spoil(document) if spoiled.is_set() and document.get("id", "example") != "example" else document

    with plain_server(plan.parent / "repository", say=say) as port:
        found, log, _ = ran(plan, port, 40, {25: spoiled.set})
    answered_all(found, log, 40)
    assert together(found) > 0


def free(plan: Path) -> Path:
    """Return the plan with a radio that takes nothing, so that a slow machine is no reason to stay here."""
    document = json.loads(plan.read_text())
    document["split"]["link"]["radio"]["base_w"] = 0.0
    other = plan.with_name("free.json")
    other.write_text(json.dumps(document))
    return other


def test_a_half_that_is_swapped_under_its_name_meanwhile_is_found_out_and_left(plan: Path) -> None:
    """Its answers are well formed, and another network's: only a proof in between tells."""
    swapped = Event()

    def say(document: dict[str, Any]) -> object:
        if not swapped.is_set() or "outputs" not in document or "id" not in document:
            return document
        outputs = [{**each, "data": [2 * value for value in each["data"]]} for each in document["outputs"]]
        return {**document, "outputs": outputs}

    def on_progress(done: int, total: int, stage: str) -> None:
        if done > 10 and stage != place_of("", ""):
            swapped.set()

    with plain_server(plan.parent / "repository", say=say) as port:
        load, rules = f"periodic:{1e3 * PERIOD_S:g}ms:120", READY._replace(again_s=0.3, z=-1e6)
        asked = Cooperation(free(plan), f"http://127.0.0.1:{port}", load=load, compare=True, rules=rules)
        found, _, journal = run(asked, on_progress)
    refuted = next(at for at, each in enumerate(journal.seen) if each.what == "refuted")
    before = sum(each.what == "request" for each in journal.seen[:refuted])
    assert any(each.option for each in journal.decisions[:before])
    assert not any(each.option for each in journal.decisions[before:])
    assert found.num_different < 20, "found out soon"


def test_questions_to_the_server_at_the_start_are_told(plan: Path, server: Process) -> None:
    said: list[tuple[int, int, str]] = []
    asked = Cooperation(plan, f"http://127.0.0.1:{server.port}", load="periodic:20ms:2")
    run(asked, lambda done, total, stage: said.append((done, total, stage)))
    questions = [(done, total) for done, total, stage in said if stage.startswith("asking http")]
    assert len(questions) == questions[0][1] >= 2


@pytest.mark.parametrize(
    ("word", "value"), [("extensions", 5), ("inputs", [{"name": "x", "datatype": "FP99", "shape": [1e400]}])]
)
def test_a_server_that_describes_itself_in_garbage_is_told_of_or_used_but_ends_nothing(
    plan: Path, word: str, value: object
) -> None:
    def say(document: dict[str, Any]) -> object:
        return {**document, word: value} if word in document else document

    with plain_server(plan.parent / "repository", say=say) as port:
        if word == "inputs":
            with pytest.raises(Refused, match="what it describes there takes other tensors"):
                ran(plan, port, 5)
        else:
            answered_all(*ran(plan, port, 5)[:2], 5)


@pytest.mark.parametrize("place", ["127.0.0.1:port", "127.0.0.1:99999", "me:secret@127.0.0.1:1", "a b", "[::1"])
def test_an_address_that_can_be_no_server_s_is_refused(plan: Path, place: str) -> None:
    with pytest.raises(ValueError, match="is not like http://127"):
        run(Cooperation(plan, f"http://{place}"))
