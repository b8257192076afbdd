"""From a network and examples to a mapping that was shown on other examples, or to a refusal that says why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.core.graph import Layer
from amble.levers.memory import modules as memory
from amble.levers.memory.approximating import Faulty, Memories, Proving, dram, halves, trials
from amble.levers.memory.partitions import DramPlan
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.stages.measure.accuracy import Examples

CENTRES = np.random.default_rng(0).normal(0, 1, (4, 600)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("centres")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """The nearest of four centres, as one matrix product."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"], name="centres")],
        "centres",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 600])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.ascontiguousarray(CENTRES.T), "w")],
    )
    path = folder / "centres.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    random = np.random.default_rng(1)
    labels = random.integers(0, 4, 400)
    x = CENTRES[labels] + random.normal(0, 1, (400, 600)).astype(np.float32)
    np.savez(folder / "data.npz", x=x.astype(np.float32), labels=labels)
    return folder / "data.npz"


def mapped(model: Path, data: Path, **options: object) -> DramPlan:
    chosen = {"dram": "ddr4-2400", "module": "vendorB", "max_loss": "5pt", "system": "eyeriss", **options}
    return dram(model, data=data, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(model: Path, data: Path, folder: Path) -> tuple[DramPlan, list[str]]:
    """A mapping, and what was told on the way."""
    steps: list[str] = []
    files = {"keep": folder / "kept.json", "hardened": folder / "hard.onnx"}
    return mapped(model, data, **files, on_progress=lambda what, *_: steps.append(what)), steps


def test_a_mapping_saves_energy_is_shown_on_data_and_says_what_it_rests_on(found: tuple[DramPlan, list[str]]) -> None:
    plan, _ = found
    assert 0.1 < plan.saving < 0.5
    assert plan.energy_j == pytest.approx(plan.lower_bound_j, rel=1e-3)
    assert plan.verified.startswith("72 of 72 fresh modules of typical error rates keep 5 points on 200 ")
    words = " ".join(plan.labels)
    for needed in ("predicted", "ddr3-vendorB", "10 times the lower bound", "DDR4", "assumed"):
        assert needed in words


def test_a_stopped_search_goes_on_from_its_file(
    model: Path, data: Path, folder: Path, found: tuple[DramPlan, list[str]]
) -> None:
    plan, steps = found
    assert steps.count("rates judged") > 3
    again: list[str] = []
    assert mapped(model, data, keep=folder / "kept.json", on_progress=lambda what, *_: again.append(what)) == plan
    assert again.count("rates judged") == 0


def test_a_search_with_another_seed_takes_nothing_from_the_file(
    model: Path, data: Path, folder: Path, found: tuple[DramPlan, list[str]]
) -> None:
    kept, again = folder / "other.json", list[str]()
    kept.write_bytes((folder / "kept.json").read_bytes())
    mapped(model, data, keep=kept, seed=7, on_progress=lambda what, *_: again.append(what))
    assert again.count("rates judged") > 3


def test_single_tensors_bear_at_least_what_all_bear_together_and_more_errors_save_no_more(
    model: Path, data: Path, found: tuple[DramPlan, list[str]]
) -> None:
    assert mapped(model, data, fine=True).energy_j <= found[0].energy_j * (1 + 1e-9)
    assert mapped(model, data, factor=100.0).saving <= found[0].saving


def unseen(model: Path) -> Faulty:
    """The network on examples that no search has seen."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 4, 200)
    x = CENTRES[labels] + random.normal(0, 1, (200, 600)).astype(np.float32)
    return Faulty.of(FaultyOnnx(model), Examples({"x": x.astype(np.float32)}, labels.astype(np.int64)))


def test_a_mapping_keeps_its_target_on_unseen_examples_and_modules(
    model: Path, found: tuple[DramPlan, list[str]]
) -> None:
    given = {"network": unseen(model), "profile": memory.profile("vendorB")}
    losses = trials(found[0], **given, num=40, seed=0)  # type: ignore[arg-type]
    assert sum(loss <= 0.05 for loss in losses) >= 38
    assert losses[:3] == trials(found[0], **given, num=3, seed=0)  # type: ignore[arg-type]


def test_one_wrong_answer_in_a_hundred_is_one_point(model: Path) -> None:
    network = unseen(model)
    network = network.on(network.examples.rows(0, 100))
    losses = {network.at_rates({"w": rate, "x": rate}, seed) for rate in (0.1, 0.2, 0.3) for seed in range(6)}
    assert losses <= {count / 100 for count in range(-100, 101)}
    assert len(losses) > 2


def test_trials_tell_a_mapping_that_keeps_nothing(model: Path, found: tuple[DramPlan, list[str]]) -> None:
    wrong = replace(found[0], placed=tuple(replace(each, ber=0.4) for each in found[0].placed))
    losses = trials(wrong, network=unseen(model), profile=memory.profile("vendorB"), num=3, seed=0)
    assert min(losses) > 0.05
    clean = replace(found[0], placed=tuple(replace(each, ber=0.0) for each in found[0].placed))
    assert trials(clean, network=unseen(model), profile=memory.profile("vendorB"), num=2, seed=0) == [0.0, 0.0]


def test_the_tensor_that_a_proof_fails_by_is_found(model: Path, found: tuple[DramPlan, list[str]]) -> None:
    for guilty in ("w", "x"):
        rates = {"w": 1e-7, "x": 1e-7, guilty: 0.4}
        wrong = replace(found[0], placed=tuple(replace(each, ber=rates[each.tensor]) for each in found[0].placed))
        proving = Proving(unseen(model), memory.profile("vendorB"), 0.05, 0)
        shown = proving(wrong, 0)
        assert (shown.kept, shown.said[:7]) == (False, "0 of 1 ")
        assert proving.blame(wrong, shown) == guilty
    clean = replace(found[0], placed=tuple(replace(each, ber=0.0) for each in found[0].placed))
    shown = proving(clean, 1)
    assert shown.kept
    assert proving.blame(clean, shown) is None


def test_a_mapping_is_read_back_from_its_file_and_shown(tmp_path: Path, found: tuple[DramPlan, list[str]]) -> None:
    amble.save(found[0], tmp_path / "plan.json")
    assert amble.read(tmp_path / "plan.json") == found[0]
    titles = [table.title for table in amble.show(found[0])]
    assert titles == ["Mapping to approximate memory", "Partitions", "Tensors"]


def test_the_hardened_network_answers_as_the_given_one(
    model: Path, data: Path, folder: Path, found: tuple[DramPlan, list[str]]
) -> None:
    x = np.load(data)["x"][:50]
    answers = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for path in (model, folder / "hard.onnx")
    ]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)


def test_the_command_maps_saves_and_shows(model: Path, data: Path, tmp_path: Path) -> None:
    given = ["dram", str(model), "--data", str(data), "--max-loss", "5pt", "--system", "tpu"]
    done = CliRunner().invoke(main, [*given, "-o", str(tmp_path / "plan.json"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verified"].startswith("72 of 72")
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "plan.json")])
    assert "Mapping to approximate memory" in shown.stdout
    assert (tmp_path / "plan.json.part").exists()
    refused = CliRunner().invoke(main, [*given, "--module", "vendorZ"])
    assert (refused.exit_code, "ddr3-vendorA" in refused.stderr) == (2, True)


def test_what_the_plan_says_of_layers_adds_up(found: tuple[DramPlan, list[str]]) -> None:
    plan, _ = found
    (layer,) = plan.layers
    assert (layer.layer, plan.precision) == (Layer("centres", "w", 2_400, "x"), "fp32")
    assert 0.0 < layer.moved_j < layer.nominal_j
    assert 0.0 < plan.held_w < plan.nominal_held_w
    assert plan.energy_j < plan.nominal_j
    assert [each.factor for each in plan.band] == [1.0, 10.0, 100.0]
    assert plan.band[1].energy_j == pytest.approx(plan.energy_j, rel=1e-6)
    assert plan.band[0].energy_j <= plan.band[1].energy_j <= plan.band[2].energy_j
    assert plan.proof is not None
    assert len(plan.proof.losses) == 72
    assert max(plan.proof.losses) <= plan.proof.max_loss == 0.05
    assert set(plan.limits) == {"w", "x"}
    assert all(each.ber <= plan.limits[each.tensor] for each in plan.placed)


def test_clocks_and_memory_are_planned_together(
    model: Path, folder: Path, tmp_path: Path, found: tuple[DramPlan, list[str]]
) -> None:
    amble.save(found[0], tmp_path / "map.json")
    given = ["plan", str(model), "--device", "sim:jetson-tx2", "--deadline", "30ms", "--shape", "x:1,600"]
    done = CliRunner().invoke(main, [*given, "--dram", str(tmp_path / "map.json"), "--json"])
    assert done.exit_code == 0, done.output
    schedule = json.loads(done.stdout)
    assert any(step["point"].get("dram") for step in schedule["steps"])
    assert "memory at its ratings" in [each["name"] for each in schedule["baselines"]]
    alone = json.loads(CliRunner().invoke(main, [*given, "--json"]).stdout)
    memory_j = sum(each.moved_j for each in found[0].layers) + found[0].held_w * schedule["period_s"]
    assert schedule["predicted"]["energy_j"] - alone["predicted"]["energy_j"] == pytest.approx(memory_j, rel=0.05)
    hardened = ["plan", str(folder / "hard.onnx"), *given[2:], "--dram", str(tmp_path / "map.json")]
    assert CliRunner().invoke(main, hardened).exit_code == 0
    wrong = replace(found[0], precision="int8")
    amble.save(wrong, tmp_path / "wrong.json")
    refused = CliRunner().invoke(main, [*given, "--dram", str(tmp_path / "wrong.json")])
    assert (refused.exit_code, "the mapping is of int8" in refused.stderr) == (2, True)


def test_what_cannot_be_kept_is_refused(model: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        np.savez(tmp_path / "unlabelled.npz", x=arrays["x"])
        np.savez(tmp_path / "few.npz", x=arrays["x"][:20], labels=arrays["labels"][:20])
    with pytest.raises(Refused, match="labels"):
        mapped(model, tmp_path / "unlabelled.npz")
    with pytest.raises(Refused, match="at least 100"):
        mapped(model, tmp_path / "few.npz")
    with pytest.raises(Refused, match="no memory module"):
        mapped(model, data, module="vendorZ")


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.5, -10.0])
def test_a_factor_that_is_no_number_of_times_is_refused(model: Path, data: Path, factor: float) -> None:
    with pytest.raises(ValueError, match="--factor"):
        mapped(model, data, factor=factor)


def test_a_negative_seed_is_a_wrong_argument(model: Path, data: Path) -> None:
    done = CliRunner().invoke(main, ["dram", str(model), "--data", str(data), "--seed", "-1", "--dry-run"])
    assert done.exit_code == 2
    assert "--seed" in done.output


def test_worse_modules_have_more_errors_and_save_no_more() -> None:
    made, profile = memory.module("ddr4-2400", "cpu"), memory.profile("vendorB")
    typical, worse = (Memories(made, profile, 10.0, spreads).partitions(1e-3)[0].settings for spreads in (0.0, 2.0))
    assert worse[0] == typical[0]
    rates = {each.point: each.ber for each in typical}
    assert all(each.ber >= rates[each.point] for each in worse)
    assert any(each.ber > 5.0 * rates[each.point] for each in worse)
    assert "2 standard deviations worse than typical" in " ".join(Memories(made, profile, 10.0, 2.0).labels(1e-3))


def test_a_file_that_is_sorted_by_label_finds_and_verifies_with_all_labels(data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        order = np.argsort(arrays["labels"], kind="stable")
        every = Examples({"x": arrays["x"][order]}, arrays["labels"][order])
    found, judged = halves(tmp_path / "sorted.npz", "x", 100, lambda: every)
    assert len(found) == 100
    assert {*found.labels.tolist()} == {*judged.labels.tolist()} == {0, 1, 2, 3}  # type: ignore[union-attr]
    assert not {row.tobytes() for row in found.inputs["x"]} & {row.tobytes() for row in judged.inputs["x"]}


def test_a_mapping_says_what_loads_must_take_for_implausible(found: tuple[DramPlan, list[str]]) -> None:
    assert {*found[0].bounds} == {"w", "x"}
    assert all(low < high for low, high in found[0].bounds.values())


def test_nothing_to_lose_is_refused(model: Path, data: Path) -> None:
    with pytest.raises(Refused, match="allow a little"):
        mapped(model, data, max_loss="0pt")
