"""Examples are dealt out alike, whatever the order of their file."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.examples import Examples, Part, dealt

PARTS = (Part("calibrate", 0.25, 40), Part("judge by", 1.0, 60))


def examples(num: int = 200, classes: int = 5) -> Examples:
    """Examples sorted by their label, classes of unequal size."""
    rng = np.random.default_rng(3)
    labels = np.sort(np.minimum(rng.geometric(0.4, num) - 1, classes - 1))
    return Examples({"x": rng.standard_normal((num, 6)).astype(np.float32)}, labels)


def reordered(given: Examples, seed: int) -> Examples:
    order = np.random.default_rng(seed).permutation(len(given))
    return Examples({"x": given.inputs["x"][order]}, None if given.labels is None else given.labels[order])


@pytest.mark.parametrize("labelled", [True, False])
def test_sorted_and_shuffled_files_are_dealt_out_alike(labelled: bool) -> None:
    given = examples() if labelled else Examples(examples().inputs)
    one, other = dealt(given, PARTS, "sorted.npz"), dealt(reordered(given, 1), PARTS, "shuffled.npz")
    for purpose in one:
        np.testing.assert_array_equal(one[purpose].inputs["x"], other[purpose].inputs["x"])


def test_every_part_has_every_class_in_its_share() -> None:
    given = examples()
    assert given.labels is not None
    whole = np.bincount(given.labels) / len(given)
    for part in dealt(given, PARTS, "sorted.npz").values():
        assert part.labels is not None
        counts = np.bincount(part.labels, minlength=5)
        assert np.abs(counts - whole * len(part)).max() < 2.0


def test_no_two_parts_share_an_example() -> None:
    found = dealt(examples(), PARTS, "sorted.npz")
    assert [len(each) for each in found.values()] == [40, 60]
    rows = [{row.tobytes() for row in each.inputs["x"]} for each in found.values()]
    assert not rows[0] & rows[1]


def test_labels_stay_with_their_examples() -> None:
    given = examples()
    assert given.labels is not None
    label_of = {row.tobytes(): label for row, label in zip(given.inputs["x"], given.labels, strict=True)}
    for part in dealt(given, PARTS, "sorted.npz").values():
        assert part.labels is not None
        assert [label_of[row.tobytes()] for row in part.inputs["x"]] == part.labels.tolist()


def test_too_few_examples_are_refused_in_a_line_that_says_how_many_are_enough() -> None:
    parts = (Part("judge by", 0.2, least=2), Part("tune with", 1.0))
    with pytest.raises(Refused, match=r"few\.npz has 9 examples: 1 to judge by and 8 to tune with.*at least 10"):
        dealt(examples(9), parts, "few.npz")
    assert len(dealt(examples(10), parts, "few.npz")["judge by"]) == 2
