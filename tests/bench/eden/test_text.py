"""How the script of the text classifier reads, shares out and fits texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

TABLE = "Category\tText\nd\tstring\nclass\t\nearn\tprofit rose \nacq\tfirm buys firm \n\n"


@pytest.fixture
def text(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench.eden.text")


def test_lines_below_the_head_are_topics_and_texts(text: ModuleType) -> None:
    assert list(text.rows(TABLE)) == [("earn", "profit rose"), ("acq", "firm buys firm")]


def test_a_text_comes_once_and_never_in_a_second_set(text: ModuleType) -> None:
    known: set[str] = set()
    first = text.shuffled([("a", "one"), ("b", "two"), ("a", "one")], 0, known)
    assert sorted(first) == [("a", "one"), ("b", "two")]
    assert text.shuffled([("a", "one"), ("a", "three")], 0, known) == [("a", "three")]


def test_the_regression_tells_classes_apart_though_one_state_hardly_varies(text: ModuleType) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = random.normal(0.0, 1.0, (3, 20))
    states = (centres[labels] + random.normal(0.0, 0.3, (300, 20))).astype(np.float32)
    states[:, 7] = 1.0 + 1e-8 * random.normal(0.0, 1.0, 300)
    weights, biases = text.fitted(states, labels)
    assert ((states @ weights.T + biases).argmax(axis=1) == labels).mean() > 0.99
    assert np.abs(weights).max() < 10.0


def test_calibration_takes_as_many_texts_as_it_says(text: ModuleType) -> None:
    given = {"input_ids": np.arange(1_000).reshape(1_000, 1)}
    reader = text.Texts(given)
    parts = []
    while (part := reader.get_next()) is not None:
        parts.append(part["input_ids"])
    found = np.concatenate(parts)
    np.testing.assert_array_equal(found[:, 0], np.arange(text.NUM_CALIBRATED))


@pytest.mark.skipif(
    not (Path(__file__).parents[3] / "build" / "text" / "r8.npz").exists(), reason="the texts are not here"
)
def test_sets_share_no_text(text: ModuleType) -> None:
    every = text.tokenised()
    seen = [{row.tobytes() for row in every[f"{part}_input_ids"]} for part in text.PARTS]
    sizes = [len(every[f"{part}_labels"]) for part in text.PARTS]
    assert sizes[0] == text.NUM_FITTED
    assert all(num == len(every[f"{part}_attention_mask"]) for num, part in zip(sizes, text.PARTS, strict=True))
    assert every["test_input_ids"].shape[1] == text.NUM_TOKENS
    assert max(len(one & other) for at, one in enumerate(seen) for other in seen[:at]) == 0
