"""The page of a mapping shows what tensors bear, where they live, the energy with its band, and the proof."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from amble.levers.memory import page as mapping
from amble.levers.memory.partitions import BandEnergy, DramPlan, Placed, Proof
from amble.levers.memory.profiles import MemoryPoint
from amble.stages.check.show import show_html
from tests.stages.check.test_figures import values

PLAN = DramPlan(
    placed=(
        Placed("conv.weight", "bank0", 0, 1e-5),
        Placed("image", "bank3", 0, 0.0),
        Placed("a_long_prefix/that/goes/on/and/on/relu_11_output", "bank0", 800, 1e-5),
    ),
    settings={"bank0": MemoryPoint(0.85, 10e-9, 10e-9), "bank3": MemoryPoint(refresh_s=0.128)},
    energy_j=7e-3,
    nominal_j=1e-2,
    lower_bound_j=6.9e-3,
    saved_s=1e-6,
    method="exact",
    verified="59 of 59 fresh modules keep 1 points",
    labels=("energy and time are predicted",),
    limits={"conv.weight": 3e-5, "image": 1e-7, "a_long_prefix/that/goes/on/and/on/relu_11_output": 1e-4},
    band=(BandEnergy(1.0, 6e-3), BandEnergy(10.0, 7e-3), BandEnergy(100.0, 8e-3)),
    proof=Proof(0.93, 200, 0.01, (0.0, 0.0, 0.005, -0.005, 0.01)),
)


def read(figure: str) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = json.loads(figure)["data"]
    return traces


def test_limits_and_rates_stand_on_the_line_of_their_tensor() -> None:
    borne, lived = read(mapping.limits_figure(PLAN))
    assert values(borne, "x") == [3e-5, 1e-7, 1e-4]
    rates = [None if each is None or np.isnan(each) else each for each in values(lived, "x")]
    assert rates == [1e-5, None, 1e-5]
    assert borne["y"] == lived["y"]
    assert borne["y"][:2] == ["conv.weight", "image"]
    assert len(borne["y"][2]) < 40


def test_a_tensor_fills_the_cell_of_its_partition_alone() -> None:
    (heat,) = read(mapping.places_figure(PLAN))
    assert [[bool(cell) for cell in row] for row in heat["text"]] == [[True, False], [False, True], [True, False]]
    assert "no errors" in heat["text"][1][1]
    assert "1e-05" in heat["text"][0][0]
    assert heat["x"] == [
        "<b>bank0</b><br>0.85 V/Vnom<br>tRCD 10 ns",
        "<b>bank3</b><br>1 V/Vnom<br>refresh 128 ms",
    ]


def test_energies_have_the_ratings_beside_them_and_the_band_behind() -> None:
    (bars,) = read(mapping.energy_figure(PLAN))
    assert values(bars, "y") == [1e-2, 7e-3, 6e-3, 7e-3, 8e-3]
    assert bars["x"] == ["at ratings", "this mapping", "errors × 1", "errors × 10", "errors × 100"]
    assert "30.0 %" in bars["text"][1]
    assert "%" not in bars["text"][0]


def test_every_module_of_the_proof_is_counted_once_where_it_lost() -> None:
    assert PLAN.proof is not None
    (bars,) = read(mapping.accuracy_figure(PLAN.proof))
    found = dict(zip(np.round(values(bars, "x"), 6).tolist(), values(bars, "y"), strict=True))
    assert found == {-0.5: 1, 0.0: 2, 0.5: 1, 1.0: 1}


def test_the_page_says_what_is_predicted_and_what_was_measured() -> None:
    page = show_html(PLAN)
    for needed in ("30.0 % less", "20.0 % to 40.0 %", "59 of 59 fresh modules", "are predicted", "Accuracy, measured"):
        assert needed in page.replace("\u00a0", " ")
    assert page.count('class="plot"') == 4


def test_a_mapping_from_before_has_fewer_plots_and_no_verdict_it_did_not_earn() -> None:
    page = show_html(replace(PLAN, limits={}, band=(), proof=None, verified=""))
    assert page.count('class="plot"') == 2
    assert "not shown" in page


@pytest.mark.parametrize(
    "names", [["a" * 60 + "1", "a" * 60 + "2"], ["a" * 20 + "x" + "b" * 30, "a" * 20 + "y" + "b" * 30]]
)
def test_names_are_cut_only_while_they_stay_different(names: list[str]) -> None:
    placed = tuple(Placed(name, "bank0", 0, 1e-5) for name in names)
    plan = replace(PLAN, placed=placed, settings={"bank0": MemoryPoint(0.9)})
    (heat,) = read(mapping.places_figure(plan))
    assert len(set(heat["y"])) == 2
