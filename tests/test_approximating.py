"""From a network and examples to a mapping that was shown on other examples, or to a refusal that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import amble
from amble.approximating import dram
from amble.core.errors import Refused
from amble.core.partitions import DramPlan

CENTRES = np.random.default_rng(0).normal(0, 1, (4, 600)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The nearest of four centres, as one matrix product."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"], name="centres")],
        "centres",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 600])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.ascontiguousarray(CENTRES.T), "w")],
    )
    path = tmp_path / "centres.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    labels = random.integers(0, 4, 400)
    x = CENTRES[labels] + random.normal(0, 1, (400, 600)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x.astype(np.float32), labels=labels)
    return tmp_path / "data.npz"


def mapped(model: Path, data: Path, **options: object) -> DramPlan:
    chosen = {"dram": "ddr4-2400", "module": "vendorB", "max_loss": "5pt", "system": "eyeriss", **options}
    return dram(model, data=data, **chosen)  # type: ignore[arg-type]


def test_a_mapping_saves_energy_is_shown_on_data_and_says_what_it_rests_on(model: Path, data: Path) -> None:
    plan = mapped(model, data)
    assert 0.1 < plan.saving < 0.5
    assert plan.energy_j == pytest.approx(plan.lower_bound_j, rel=1e-3)
    assert plan.verified.startswith("59 of 59 fresh modules keep 5 points on 200 other examples")
    words = " ".join(plan.labels)
    for needed in ("predicted", "ddr3-vendorB", "10 times the lower bound", "DDR4", "assumed"):
        assert needed in words


def test_the_lower_bound_allows_more_than_a_hundred_times_it(model: Path, data: Path) -> None:
    savings = [mapped(model, data, factor=factor).saving for factor in (1.0, 100.0)]
    assert savings[0] >= savings[1]


def test_a_stopped_search_goes_on_from_its_file(model: Path, data: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    first = mapped(model, data, keep=tmp_path / "kept.json", on_progress=lambda what, *_: steps.append(what))
    judged = steps.count("rates judged")
    assert judged > 3
    steps.clear()
    again = mapped(model, data, keep=tmp_path / "kept.json", on_progress=lambda what, *_: steps.append(what))
    assert again == first
    assert steps.count("rates judged") == 0


def test_single_tensors_bear_at_least_what_all_bear_together(model: Path, data: Path) -> None:
    assert mapped(model, data, fine=True).energy_j <= mapped(model, data).energy_j * (1 + 1e-9)


def test_a_mapping_is_read_back_from_its_file_and_shown(model: Path, data: Path, tmp_path: Path) -> None:
    plan = mapped(model, data)
    amble.save(plan, tmp_path / "plan.json")
    assert amble.read(tmp_path / "plan.json") == plan
    titles = [table.title for table in amble.show(plan)]
    assert titles == ["Mapping to approximate memory", "Partitions", "Tensors"]


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
