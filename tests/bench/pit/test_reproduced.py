"""What is known of PIT is judged from both sides; a ladder's word is not the truth."""

from __future__ import annotations

import pytest

from bench.kit import told
from bench.pit.misstated import misstated_targets
from bench.pit.reproduced import SHAPED, reproduced


def shape(response: float, energy: float = -0.28, network: str = SHAPED[0]) -> dict[str, object]:
    return {
        "part": "shape",
        "network": network,
        "load": 0.95,
        "energy": energy,
        "response": response,
        "accuracy": 0.995,
    }


def judged(record: dict[str, object], name: str) -> bool | None:
    (found,) = (each for each in reproduced([record]) if f"paper, {SHAPED[0]}" in each.target and name in each.target)
    return found.met


@pytest.mark.parametrize(("response", "met"), [(-0.61, False), (-0.11, True), (-0.14, True), (0.05, False)])
def test_a_response_far_better_than_told_is_no_reproduction(response: float, met: bool) -> None:
    assert judged(shape(response), "response") is met


@pytest.mark.parametrize(("energy", "met"), [(-0.35, False), (-0.27, True), (-0.20, False)])
def test_every_network_s_energy_is_judged_by_itself(energy: float, met: bool) -> None:
    records = [shape(-0.11, energy), shape(-0.11, -0.28, SHAPED[1])]
    found = {each.target: each.met for each in reproduced(records) if "energy over" in each.target}
    assert [value for name, value in found.items() if name.startswith(f"paper, {SHAPED[0]}:")] == [met]
    assert [value for name, value in found.items() if name.startswith(f"paper, {SHAPED[1]}:")] == [True]
    assert [value for name, value in found.items() if name.startswith(f"paper, {SHAPED[2]}:")] == [None]


def test_nothing_calls_the_replay_published() -> None:
    assert [each for each in told.read("pit@sim").targets if "published" in each["target"]] == []


def test_the_floor_is_judged_by_the_truth_and_not_by_what_is_stated() -> None:
    record = {"part": "misstated", "stated": 0.003, "told": 0.997, "accuracy": 0.994}
    found = {each.target: each for each in misstated_targets([record], 0.995)}
    (half,) = (each for name, each in found.items() if "stated loss 0.3%" in name)
    assert (half.value, half.met) == (0.994, False)
    assert [each.met for name, each in found.items() if "0.3%" not in name] == [None, None]


def test_recorded_truth_and_word_differ_by_what_is_misstated() -> None:
    cells = told.read("pit@sim").where(part="misstated")
    assert {each["stated"] for each in cells} == {0.003, 0.006, 0.012}
    for each in cells:
        assert each["accuracy"] == pytest.approx(1.0 - 0.006 * each["int8"])
        assert each["told"] == pytest.approx(1.0 - each["stated"] * each["int8"], abs=2e-5)
