"""Every verb that needs examples gets those of its purpose, whatever the order of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.examples import Examples
from amble.inputs.examples import images, to_calibrate, to_find, to_learn
from amble.stages.measure import accuracy

CLASSES = 4


def saved(folder: Path, name: str, order: np.ndarray) -> str:
    """A file of examples that are no more than their class."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 100)
    x = (labels[:, None] + 0.1 * rng.standard_normal((len(labels), 3))).astype(np.float32)
    path = folder / name
    np.savez(path, x=x[order], labels=labels[order])
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    order = np.arange(100 * CLASSES)
    return saved(tmp_path, "sorted.npz", order), saved(
        tmp_path, "mixed.npz", np.random.default_rng(1).permutation(order)
    )


def parts(verb: str, path: str) -> tuple[Examples, ...]:
    if verb == "quantize":
        return to_calibrate(path, 200)[:2]
    if verb == "prune":
        return to_learn(path, labels=True)
    return to_find(path, "x", 100, lambda: accuracy.read_arrays(Path(path)))


@pytest.mark.parametrize("verb", ["quantize", "prune", "dram"])
def test_a_file_sorted_by_label_gives_the_same_examples_as_one_that_is_mixed(verb: str, files: tuple[str, str]) -> None:
    for one, other in zip(*(parts(verb, each) for each in files), strict=True):
        np.testing.assert_array_equal(one.inputs["x"], other.inputs["x"])
        assert one.labels is not None
        assert np.ptp(np.bincount(one.labels, minlength=CLASSES)) <= 1


@pytest.mark.parametrize("verb", ["quantize", "prune", "dram"])
def test_no_example_serves_two_purposes(verb: str, files: tuple[str, str]) -> None:
    rows = [{row.tobytes() for row in each.inputs["x"]} for each in parts(verb, files[0])]
    assert not rows[0] & rows[1]


@pytest.mark.parametrize(("verb", "least"), [("quantize", 4), ("prune", 10), ("dram", 100)])
def test_too_few_examples_are_refused_with_how_many_are_enough(verb: str, least: int, tmp_path: Path) -> None:
    path = saved(tmp_path, "few.npz", np.arange(least - 1))
    with pytest.raises(Refused, match=f"at least {least}$"):
        parts(verb, path)
    assert all(len(each) for each in parts(verb, saved(tmp_path, "enough.npz", np.arange(least))))


def test_bundled_images_that_were_seen_are_not_those_held_out() -> None:
    seen, held_out = ({row.tobytes() for row in images(split).inputs["image"]} for split in ("seen", "held_out"))  # type: ignore[arg-type]
    assert len(images("seen")) == 5_000
    assert len(seen & held_out) < 10
