"""One loop that can be stopped and gone on with, and ends early with the best weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amble.runtimes.torch.training import CrossEntropy, Distillation, Epoch, Labelled, Recipe, accuracy, train

RECIPE = Recipe(3, top_rate=0.1, batch=16, seed=3, bfloat16=False)


def points(seed: int = 0, num: int = 128) -> Labelled:
    """Two clouds."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (num,), generator=generator)
    return Labelled(torch.randn(num, 4, generator=generator) + 3.0 * labels[:, None], labels)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([each.flatten() for each in module.parameters()])


class Stopped(Exception):
    pass


def stop_after(epochs: int, seen: list[Epoch]) -> object:
    def note(epoch: Epoch) -> None:
        seen.append(epoch)
        if epoch.number == epochs:
            raise Stopped

    return note


def test_training_tells_the_clouds_apart() -> None:
    made = network()
    epochs = train(made, points(), RECIPE, loss=CrossEntropy(), held_out=points(1))
    assert accuracy(made, points(2)) > 0.95
    assert [each.number for each in epochs] == [1, 2, 3]
    assert epochs[-1].loss < epochs[0].loss
    assert not made.training


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, parts, checkpoint = network(), network(), tmp_path / "folder" / "run.part"
    wanted = train(whole, points(), RECIPE, loss=CrossEntropy())
    with pytest.raises(Stopped):
        train(
            parts,
            points(),
            RECIPE,
            loss=CrossEntropy(),
            checkpoint=checkpoint,
            on_epoch=stop_after(2, []),  # type: ignore[arg-type]
        )
    found = train(network(seed=9), points(), RECIPE, loss=CrossEntropy(), checkpoint=checkpoint)
    assert [each.loss for each in found] == [each.loss for each in wanted]
    again = network(seed=9)
    train(again, points(), RECIPE, loss=CrossEntropy(), checkpoint=checkpoint)
    torch.testing.assert_close(weights(again), weights(whole), rtol=0, atol=0)


@pytest.mark.parametrize("other", [replace(RECIPE, top_rate=0.02), replace(RECIPE, seed=4), replace(RECIPE, epochs=5)])
def test_a_checkpoint_of_another_recipe_is_not_continued(tmp_path: Path, other: Recipe) -> None:
    checkpoint = tmp_path / "run.part"
    train(network(seed=9), points(), RECIPE, loss=CrossEntropy(), checkpoint=checkpoint)
    alone, beside = network(), network()
    train(alone, points(), other, loss=CrossEntropy())
    found = train(beside, points(), other, loss=CrossEntropy(), checkpoint=checkpoint)
    assert len(found) == other.epochs
    torch.testing.assert_close(weights(beside), weights(alone), rtol=0, atol=0)


def test_a_checkpoint_of_other_data_is_not_continued(tmp_path: Path) -> None:
    checkpoint, seen = tmp_path / "run.part", list[Epoch]()
    train(network(), points(), RECIPE, loss=CrossEntropy(), checkpoint=checkpoint)
    train(network(), points(num=64), RECIPE, loss=CrossEntropy(), checkpoint=checkpoint, on_epoch=seen.append)
    assert len(seen) == RECIPE.epochs


def test_seeds_differ() -> None:
    one, other = network(), network()
    train(one, points(), RECIPE, loss=CrossEntropy())
    train(other, points(), replace(RECIPE, seed=4), loss=CrossEntropy())
    assert not torch.equal(weights(one), weights(other))


def test_patience_ends_training_with_the_best_weights() -> None:
    class Worsening:
        """Right labels in the first epoch, wrong ones from then on."""

        def __call__(self, network: nn.Module, inputs: Tensor, labels: Tensor | None, *, progress: float) -> Tensor:
            assert labels is not None
            wanted = labels if progress < 1 / 8 else 1 - labels
            return nn.functional.cross_entropy(network(inputs), wanted)

    made, held_out = network(), points(1)
    recipe = replace(RECIPE, epochs=8, patience=2, top_rate=0.3)
    epochs = train(made, points(), recipe, loss=Worsening(), held_out=held_out)
    assert len(epochs) == 3
    assert accuracy(made, held_out) == epochs[0].held_out_accuracy
    assert epochs[0].held_out_accuracy > 0.9 > (epochs[-1].held_out_accuracy or 0.0)  # type: ignore[operator]


def test_a_teacher_is_enough_where_there_are_no_labels() -> None:
    teacher, student = network(), network(seed=5)
    train(teacher, points(), RECIPE, loss=CrossEntropy())
    unlabelled = Labelled(points(3).inputs, None)
    train(student, unlabelled, RECIPE, loss=Distillation(teacher))
    assert accuracy(student, points(2)) > 0.95


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    teacher, inputs = network().eval(), points().inputs
    loss = Distillation(teacher, share=1.0)
    assert loss(teacher, inputs, None, progress=0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert loss(network(seed=5).eval(), inputs, None, progress=0.0).item() > 0.01


def test_labels_weigh_what_the_teacher_leaves() -> None:
    teacher, student, data = network().eval(), network(seed=5).eval(), points()
    assert data.labels is not None
    alone = CrossEntropy()(student, data.inputs, data.labels, progress=0.0)
    mixed = Distillation(teacher, share=0.0)(student, data.inputs, data.labels, progress=0.0)
    torch.testing.assert_close(mixed, alone)


def test_inputs_are_prepared_with_a_generator_only_while_training() -> None:
    seen: list[bool] = []

    def prepare(inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        seen.append(generator is not None)
        return inputs

    train(network(), points(), replace(RECIPE, epochs=1), loss=CrossEntropy(), held_out=points(1), prepare=prepare)
    assert seen == [True] * 8 + [False]


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="less than a batch"):
        train(network(), points(num=8), RECIPE, loss=CrossEntropy())
    with pytest.raises(ValueError, match="held-out"):
        train(network(), points(), replace(RECIPE, patience=1), loss=CrossEntropy())
    with pytest.raises(ValueError, match="labels"):
        train(network(), Labelled(points().inputs, None), RECIPE, loss=CrossEntropy())
    with pytest.raises(ValueError, match="at least one epoch"):
        Recipe(0)
    with pytest.raises(ValueError, match="labels"):
        accuracy(network(), Labelled(points().inputs, None))


def test_gradients_that_are_cut_do_not_throw_a_network_off() -> None:
    data = points()
    wild = Labelled(data.inputs * 1e4, data.labels)
    moved = []
    for steepest in (None, 1.0):
        torch.manual_seed(0)
        module = nn.Linear(4, 2)
        before = weights(module).detach().clone()
        recipe = Recipe(1, top_rate=0.01, batch=32, decay=0.0, bfloat16=False, steepest=steepest)
        train(module, wild, recipe, loss=CrossEntropy())
        moved.append(float((weights(module) - before).detach().norm()))
    assert moved[1] < 1.0 < moved[0]
