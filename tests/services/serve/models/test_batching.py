"""Joining requests: only where it is proved and so when tried; refuted claims are refused, all is explained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from amble.core.errors import Refused
from amble.inputs import open_for_serving
from amble.services.serve.explaining import explain
from amble.services.serve.models.configuration import Config
from amble.services.serve.models.joining import TOLERANCES, Unlike, compared
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found
from amble.services.serve.models.options import Options
from amble.services.serve.serving import Serve
from tests.services.serve.networks import APART, MIXING, chain

Tensors = Mapping[str, Any]


def saved(folder: Path, *steps: Any, name: str = "net", symbol: str = "N") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(chain(list(steps), symbol), path)
    return path


def loader(**options: Any) -> ModelLoader:
    device, runner, by_size = open_for_serving("host")
    return ModelLoader(device, runner, Options(max_batch=2, **options), None, by_size)


def at_once(work: Any) -> Any:
    return work()


def drawn(seed: int) -> Tensors:
    return {"x": np.random.default_rng(seed).normal(size=(1, 3)).astype(np.float32)}


def test_what_is_proved_and_tried_is_batched_and_says_so(tmp_path: Path) -> None:
    found = loader().load(Found("net", "1", saved(tmp_path, APART["dense"], APART["softmax"])), at_once)
    assert found.batched
    assert found.ladder.max_batch == 2
    assert "mixes rows" in found.batching
    assert "joined answers equal single ones" in found.batching


def test_what_mixes_rows_runs_alone_and_says_why(tmp_path: Path) -> None:
    found = loader().load(Found("net", "1", saved(tmp_path, MIXING["centred"])), at_once)
    assert not found.batched
    assert found.ladder.max_batch == 1
    assert "ReduceMean" in found.batching


def test_a_batch_size_that_the_proof_refutes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, MIXING["cumulated"])
    with pytest.raises(Refused, match=r"max_batch_size 8 cannot be kept.*CumSum.*set it to 0"):
        loader().load(Found("net", "1", path, Config("net", max_batch_size=8)), at_once)
    assert not loader().load(Found("net", "1", path, Config("net", max_batch_size=0)), at_once).batched


def test_a_shape_that_fixes_the_first_axis_makes_it_no_batch(tmp_path: Path) -> None:
    found = loader(shapes={"x": (4, 4)}).load(
        Found("net", "1", saved(tmp_path, APART["relu"], symbol="seq_len")), at_once
    )
    assert not found.batched
    assert "--shape" in found.batching


def test_every_model_is_explained_without_serving_it(tmp_path: Path) -> None:
    steps = (("a", APART["relu"]), ("b", MIXING["softmax"]))
    asked = Serve(tuple(str(saved(tmp_path, step, name=name)) for name, step in steps))
    told = {each.model: each for each in explain(asked)}
    assert told["a"].batched
    assert not told["b"].batched
    assert "Softmax" in told["b"].reason


def test_answers_that_change_in_company_are_found_whatever_was_proved() -> None:
    def by_count(inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] / len(inputs["x"])}

    with pytest.raises(Unlike, match="differs"):
        compared(by_count, drawn, 4)
    assert compared(lambda inputs: {"y": inputs["x"] * 2}, drawn, 4).worst == 0.0


def test_differences_up_to_the_declared_tolerance_are_told_and_beyond_it_refused() -> None:
    def off(share: float) -> Any:
        return lambda inputs: {"y": inputs["x"] * np.float32(1 + share * (len(inputs["x"]) > 1))}

    assert 0 < compared(off(0.1 * TOLERANCES["float32"]), drawn, 3).worst < TOLERANCES["float32"]
    with pytest.raises(Unlike):
        compared(off(10 * TOLERANCES["float32"]), drawn, 3)


def test_whole_numbers_must_be_equal_and_missing_rows_are_found() -> None:
    with pytest.raises(Unlike):
        compared(lambda inputs: {"y": np.round(inputs["x"]).astype(np.int64) + len(inputs["x"])}, drawn, 2)
    with pytest.raises(ValueError, match="rows"):
        compared(lambda inputs: {"y": inputs["x"][:1]}, drawn, 2)
