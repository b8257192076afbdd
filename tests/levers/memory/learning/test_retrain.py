"""Networks that learn to bear bit errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amble.levers.memory.learning.retrain import (
    Averaged,
    Climb,
    Corrupted,
    Stage,
    curricular,
    robust,
    settle,
    weight_limits,
)
from amble.levers.memory.learning.unreliable import FreshErrors, Precision, Unreliable, ranges, stores
from amble.runtimes.torch.training import CrossEntropy, Distillation, Labelled, Recipe, accuracy, train

RECIPE = Recipe(1, top_rate=0.02, batch=32, seed=1, bfloat16=False)
CLIMB = Climb(1e-4, 1e-2, 3, floor=0.5)


def blobs(seed: int, num: int = 640) -> Labelled:
    """Points around four corners of a cube, every coordinate told eight times."""
    torch.manual_seed(seed)
    labels = torch.randint(0, 4, (num,))
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return Labelled(corners[labels].repeat(1, 8) + 0.8 * torch.randn(num, 24), labels)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4))
    train(made, blobs(1), replace(RECIPE, epochs=3, top_rate=0.2), loss=CrossEntropy())
    return made


def unreliable(inner: nn.Module, precision: str = "int8", rate: float = 0.0) -> Unreliable:
    kind: Precision = "int8" if precision == "int8" else "fp32"
    seen = ranges(inner, [blobs(1).inputs])
    return Unreliable(inner, stores(inner, seen, kind), FreshErrors(), rate=rate)


def under_errors(inner: nn.Module, rate: float) -> float:
    torch.manual_seed(9)
    memory = unreliable(inner, rate=rate)
    return sum(accuracy(memory, blobs(2, 1000)) for _ in range(20)) / 20


def weights(inner: nn.Module) -> list[float]:
    return [float(value) for each in inner.parameters() for value in each.detach().flatten()]


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": 0.0},
        {"first": 0.2, "target": 0.1},
        {"target": 0.5},
        {"num_steps": 0},
        {"least_ratio": 1.0},
    ],
)
def test_a_climb_that_leads_nowhere_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="climb"):
        replace(CLIMB, **wrong)


def test_the_curriculum_climbs_in_equal_ratios_to_its_target() -> None:
    stages = curricular(unreliable(network()), blobs(1), RECIPE, climb=CLIMB, held_out=blobs(2))
    assert [stage.rate for stage in stages] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert all(stage.kept for stage in stages)


def test_a_step_that_leaves_too_little_is_undone_and_halved() -> None:
    memory, climb = unreliable(network()), Climb(1e-4, 0.4, 2, floor=0.9, least_ratio=3.0)
    stages = curricular(memory, blobs(1), RECIPE, climb=climb, held_out=blobs(2))
    assert [stage.kept for stage in stages[:2]] == [True, False]
    assert stages[2].rate == pytest.approx((1e-4 * 0.4) ** 0.5)
    last = [stage for stage in stages if stage.kept][-1]
    memory.rate = last.rate
    torch.manual_seed(1)
    assert accuracy(memory, blobs(2)) == pytest.approx(last.accuracy, abs=0.1)


def test_a_curriculum_whose_first_step_fails_gives_the_network_back() -> None:
    inner = network()
    before = weights(inner)
    stages = curricular(unreliable(inner), blobs(1), RECIPE, climb=Climb(0.3, 0.4, 2, floor=0.999), held_out=blobs(2))
    assert [stage.kept for stage in stages] == [False]
    assert weights(inner) == before


class Stopped(Exception):
    pass


def test_a_stopped_curriculum_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, halted = network(), network()
    curricular(unreliable(whole), blobs(1), RECIPE, climb=CLIMB, held_out=blobs(2))

    def stop(stage: Stage) -> None:
        if stage.rate > 5e-4:
            raise Stopped

    path = tmp_path / "run.climb"
    with pytest.raises(Stopped):
        curricular(unreliable(halted), blobs(1), RECIPE, climb=CLIMB, held_out=blobs(2), checkpoint=path, on_stage=stop)
    again = network()
    stages = curricular(unreliable(again), blobs(1), RECIPE, climb=CLIMB, held_out=blobs(2), checkpoint=path)
    assert len(stages) == 3
    assert weights(again) == weights(whole)


def test_both_recipes_raise_the_accuracy_under_errors() -> None:
    before = under_errors(network(), 0.1)
    taught, better = network(), network()
    curricular(unreliable(taught), blobs(1), RECIPE, climb=Climb(0.01, 0.1, 3, floor=0.3), held_out=blobs(2))
    loss = Averaged(0.01, 0.1, weight_limits(better, spreads=2.0))
    robust(unreliable(better), blobs(1), replace(RECIPE, epochs=3), loss=loss, held_out=blobs(2))
    assert under_errors(taught, 0.1) > before + 0.05
    assert under_errors(better, 0.1) > before + 0.1


def test_robust_training_leaves_weights_within_their_limits() -> None:
    inner = network()
    limits = weight_limits(inner, spreads=1.2)
    robust(unreliable(inner), blobs(1), RECIPE, loss=Averaged(1e-3, 1e-2, limits), held_out=blobs(2))
    for name, limit in limits.items():
        highest = inner.get_submodule(name).weight.detach().abs().max()
        assert float(highest) == pytest.approx(limit)


def test_robust_training_judges_epochs_under_errors() -> None:
    memory = unreliable(network())
    epochs = robust(memory, blobs(1), RECIPE, loss=Averaged(0.01, 0.2, {}), held_out=blobs(2))
    assert memory.rate == 0.2
    found = epochs[-1].held_out_accuracy
    memory.rate = 0.0
    assert found is not None
    assert found < accuracy(memory, blobs(2)) - 0.05


def test_the_rate_climbs_to_its_target_and_stays() -> None:
    loss = Averaged(1e-4, 1e-2, {}, ramp=0.5)
    assert [loss.rate(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-2])


def test_there_are_no_errors_while_the_clean_loss_is_high() -> None:
    class Refusing(FreshErrors):
        def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
            raise AssertionError("errors")

    memory, data = unreliable(network()), blobs(1, 32)
    memory.errors = Refusing()
    Averaged(0.1, 0.1, {}, most_clean=0.0)(memory, data.inputs, data.labels, progress=1.0)
    with pytest.raises(AssertionError, match="errors"):
        Averaged(0.1, 0.1, {}, most_clean=9.0)(memory, data.inputs, data.labels, progress=1.0)


@pytest.mark.parametrize("loss", [Corrupted(), Averaged(0.1, 0.1, {})])
def test_unlabelled_data_are_refused(loss: Corrupted | Averaged) -> None:
    with pytest.raises(ValueError, match="labels"):
        loss(unreliable(network()), blobs(1, 32).inputs, None, progress=0.0)


def test_a_network_in_reliable_memory_is_refused() -> None:
    data = blobs(1, 32)
    with pytest.raises(ValueError, match="Unreliable"):
        Averaged(0.1, 0.1, {})(network(), data.inputs, data.labels, progress=0.0)


def test_settling_estimates_batch_normalisation_anew_and_nothing_else() -> None:
    inner = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    inputs = 3.0 + torch.randn(256, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    inner.eval()
    memory = Unreliable(inner, stores(inner, ranges(inner, [inputs]), "fp32"), FreshErrors())
    before = weights(inner)
    settle(memory, inputs.split(64))
    with torch.no_grad():
        expected = inner[0](inputs).mean((0, 2, 3))
    assert torch.allclose(inner[1].running_mean, expected, atol=1e-4)
    assert weights(inner) == before
    assert inner[1].momentum == 0.1
    assert not inner.training


def test_distilling_pulls_answers_under_errors_to_those_of_the_teacher() -> None:
    teacher, inner, data = network(), network(), blobs(1)
    memory = unreliable(inner)

    def apart() -> float:
        torch.manual_seed(3)
        with torch.no_grad():
            wanted = teacher(data.inputs).softmax(1)
            return sum(float((memory(data.inputs, 0.1).softmax(1) - wanted).abs().mean()) for _ in range(10))

    before = apart()
    unlabelled = Labelled(data.inputs, None)
    loss = Averaged(0.1, 0.1, {}, inner=Distillation(teacher, 2.0))
    train(memory, unlabelled, replace(RECIPE, epochs=3), loss=loss)
    assert apart() < 0.9 * before
