"""Examples, answers, and what is lost between two networks on the same examples."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph, Port
from amble.core.ports import Tensors
from amble.stages.check.intervals import wilson
from amble.stages.measure.accuracy import (
    Answers,
    Examples,
    answers,
    disagreement,
    fitting,
    lost,
    read_arrays,
    read_labelled,
    right,
    shapes_of,
    squared_error,
)

GRAPH = Graph("net", (), 1, "0", inputs=(Port("x", (1, 3), "float"), Port("ids", (1, 2), "int64")))


def examples(num: int = 10, *, labels: bool = True) -> Examples:
    x = np.arange(3 * num, dtype=np.float32).reshape(num, 3)
    ids = np.zeros((num, 2), np.int64)
    return Examples({"x": x, "ids": ids}, np.arange(num) % 3 if labels else None)


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def scores(*rows: list[float]) -> Answers:
    return Answers(np.array(rows, np.float32), (len(rows[0]),))


def test_a_request_is_one_example_and_indices_wrap_around() -> None:
    found = examples(4).request(5)
    assert found["x"].shape == (1, 3)
    np.testing.assert_array_equal(found["x"][0], [3, 4, 5])


def test_an_answer_is_right_when_its_highest_score_is_the_labels() -> None:
    found = examples(3)
    assert found.judge(1, {"y": np.array([[0.1, 0.7, 0.2]])}) is True
    assert found.judge(2, {"y": np.array([[0.1, 0.7, 0.2]])}) is False
    assert found.judge(4, {"y": np.array([[0.1, 0.7, 0.2]])}) is True


def test_without_a_label_or_an_answer_nothing_is_judged() -> None:
    assert examples(labels=False).judge(0, {"y": np.ones((1, 3))}) is None
    assert examples().judge(0, {}) is None


def test_every_example_is_answered_once_also_where_the_batch_does_not_divide_them() -> None:
    seen: list[int] = []

    def run(inputs: Tensors) -> Tensors:
        seen.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    found = answers(run, examples(10), batch=4)
    assert seen == [4, 4, 4]
    np.testing.assert_array_equal(found.scores, examples(10).inputs["x"] * 2)
    assert found.are_lists


def test_answers_of_any_shape_are_kept_flat() -> None:
    found = answers(lambda inputs: {"y": np.zeros((2, 5, 7))}, examples(4), batch=2)
    assert found.scores.shape == (4, 35)
    assert found.shape == (5, 7)
    assert not found.are_lists


def test_a_device_without_answers_is_refused() -> None:
    with pytest.raises(Refused, match="gives no answers"):
        answers(lambda inputs: {}, examples(), batch=1)


def test_with_labels_right_means_the_label() -> None:
    data = Examples({"x": np.zeros((2, 1))}, np.array([0, 1]))
    ours, theirs = scores([1, 0], [1, 0]), scores([0, 1], [0, 1])
    assert right(ours, theirs, data).tolist() == [True, False]


def test_without_labels_right_means_the_same_class_as_the_reference() -> None:
    data = Examples({"x": np.zeros((2, 1))})
    assert right(scores([0.6, 0.5], [0, 1]), scores([9, 1], [1, 0]), data).tolist() == [True, False]


def test_embeddings_agree_when_their_cosine_is_near_one() -> None:
    data = Examples({"x": np.zeros((3, 1))})
    theirs = Answers(np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32), (2, 2))
    ours = Answers(np.array([[2, 0.1, 0, 0], [1, 0.3, 0, 0], [0, 0, 0, 0]], np.float32), (2, 2))
    assert right(ours, theirs, data).tolist() == [True, False, True]
    assert right(ours, theirs, data, alike=0.9).tolist() == [True, True, True]


def test_labels_need_scores() -> None:
    data = Examples({"x": np.zeros((1, 1))}, np.array([0]))
    maps = Answers(np.zeros((1, 4), np.float32), (2, 2))
    with pytest.raises(Refused, match="leave the labels out"):
        right(maps, maps, data)


def test_what_is_lost_is_the_difference_in_points() -> None:
    theirs = np.arange(100) < 90
    ours = np.arange(100) < 87
    found = lost(ours, theirs, wilson)
    assert found.value == pytest.approx(3.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 3.0 < found.high


def test_answers_that_go_together_tell_more_than_independent_ones() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random(2000) < 0.9
    paired = theirs & (rng.random(2000) < 0.99)
    other = rng.permutation(paired)
    together, apart = lost(paired, theirs, wilson), lost(other, theirs, wilson)
    assert together.value == pytest.approx(apart.value)
    assert _width(together) < 0.5 * _width(apart)


def test_the_interval_of_what_is_lost_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = 100 * (0.92 * 0.02 - 0.08 * 0.1)
    covered = 0
    for _ in range(400):
        theirs = rng.random(300) < 0.92
        change = rng.random(300)
        ours = np.where(theirs, change > 0.02, change < 0.1)
        found = lost(ours, theirs, wilson)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert covered >= 0.93 * 400


def test_the_same_answers_lose_nothing_but_are_no_proof() -> None:
    same = np.arange(50) < 45
    found = lost(same, same, wilson)
    assert found.value == 0.0
    assert found.high is not None
    assert found.high > 0.5


def test_disagreement_has_the_interval_of_the_agreement() -> None:
    found = disagreement(np.arange(200) < 198, wilson)
    ratio = wilson(198, 200).ratio
    assert found.value == pytest.approx(1.0)
    assert found.high == pytest.approx(100 * (1 - (ratio.low or 0)))
    assert found.low == pytest.approx(100 * (1 - (ratio.high or 1)))


def test_the_squared_error_is_a_share_of_the_variance() -> None:
    theirs = scores([1, -1], [-1, 1])
    assert squared_error(theirs, theirs) == 0.0
    assert squared_error(scores([1.1, -1], [-1, 1.1]), theirs) == pytest.approx(0.005, rel=1e-5)


def test_arrays_are_read_with_and_without_labels(tmp_path: Path) -> None:
    with_labels = read_arrays(saved(tmp_path, x=np.zeros((5, 3)), labels=np.arange(5, dtype=np.uint8)))
    assert with_labels.labels is not None
    assert with_labels.labels.dtype == np.int64
    assert len(with_labels) == 5
    assert read_arrays(saved(tmp_path, x=np.zeros((5, 3)))).labels is None


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": np.zeros((5, 3)), "labels": np.zeros(4)}, "5 in x, 4 in labels"),
        ({"x": np.zeros((0, 3))}, "at least one"),
        ({"x": np.float32(1)}, "example"),
        ({"labels": np.zeros(4)}, "for each input"),
        ({"x": np.zeros((5, 3)), "labels": np.eye(5)}, r"labels has the shape \[5, 5\]; give one class number"),
        ({"x": np.zeros((5, 3)), "labels": np.int64(3)}, r"labels has the shape \[\]"),
        ({"x": np.zeros((5, 3)), "labels": np.full(5, 0.5)}, "labels holds what is no class"),
        ({"x": np.zeros((5, 3)), "labels": np.full(5, -1)}, "labels holds what is no class"),
        ({"x": np.zeros((5, 3)), "labels": np.full(5, np.nan)}, "labels holds what is no class"),
        ({"x": np.zeros((5, 3)), "labels": np.full(5, "cat")}, "labels holds what is no class"),
    ],
)
def test_arrays_that_are_no_examples_are_refused(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        read_arrays(saved(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_npz_is_refused_with_how_to_save_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(Refused, match=r"cannot read .*no \.npz file; save numbers.*np\.savez") as caught:
        read_arrays(tmp_path / "data.npz")
    assert "pickle" not in str(caught.value)


def test_examples_of_different_sizes_are_refused_with_how_to_save_them(tmp_path: Path) -> None:
    ragged = np.array([np.zeros(3), np.zeros(4)], dtype=object)
    with pytest.raises(Refused, match=r"holds Python objects; .*all examples of one shape.*np\.savez") as caught:
        read_arrays(saved(tmp_path, x=ragged))
    assert "pickle" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot read"):
        read_arrays(tmp_path / "nothing.npz")


def test_labelled_data_must_have_labels(tmp_path: Path) -> None:
    arrays = {"x": np.zeros((5, 3), np.float32), "ids": np.zeros((5, 2), np.int64)}
    with pytest.raises(Refused, match="lacks the array labels"):
        read_labelled(saved(tmp_path, **arrays), GRAPH)
    assert len(read_labelled(saved(tmp_path, **arrays, labels=np.zeros(5)), GRAPH)) == 5


def with_one(value: float) -> Examples:
    found = examples()
    changed = found.inputs["x"].copy()
    changed[3, 1] = value
    return Examples({"x": changed, "ids": np.zeros((10, 2), np.int64)})


def test_an_example_that_is_no_number_is_named() -> None:
    with pytest.raises(Refused, match="data: example 3 of x holds NaN"):
        fitting(with_one(np.nan), GRAPH, "data")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinities_in_examples_are_taken_as_masks_have_them(value: float) -> None:
    assert fitting(with_one(value), GRAPH, "data").inputs["x"][3, 1] == value


def test_labels_beyond_the_networks_classes_are_refused() -> None:
    scores = Answers(np.zeros((2, 3), np.float32), (3,))
    given = Examples({"x": np.zeros((2, 1))}, np.array([0, 3]))
    with pytest.raises(Refused, match="the labels go up to 3, the network's classes from 0 to 2"):
        right(scores, scores, given)


def test_arrays_become_the_networks_types_and_others_are_left_out() -> None:
    more = Examples({**examples().inputs, "other": np.zeros(10), "ids": np.zeros((10, 2), np.int32)})
    found = fitting(more, GRAPH, "data")
    assert list(found.inputs) == ["x", "ids"]
    assert found.inputs["ids"].dtype == np.int64


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"x": np.zeros((4, 3), np.float32)}, "lacks the arrays ids"),
        ({"x": np.zeros((4, 2), np.float32), "ids": np.zeros((4, 2), np.int64)}, r"x is float32 \[2\], .* \[3\]"),
        ({"x": np.zeros((4, 3), np.float32), "ids": np.zeros((4, 2))}, "ids is float64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(inputs: dict[str, Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        fitting(Examples(inputs), GRAPH, "data")


def test_shapes_come_from_the_examples() -> None:
    assert shapes_of(examples(), 4) == {"x": (4, 3), "ids": (4, 2)}


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    run = partial(lambda factor, inputs: {"y": inputs["x"] * factor}, 2.0)
    answers(run, examples(5), batch=2, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def _width(estimate: Any) -> float:
    return float(estimate.high - estimate.low)


def unlabelled(num: int) -> Examples:
    return Examples({"x": np.zeros((num, 1), np.float32)})


NAN, INF = float("nan"), float("inf")


def test_a_reference_that_answers_nan_is_refused() -> None:
    reference = scores([1, 2], [NAN, 1])
    with pytest.raises(Refused, match=r"answers NaN \(not a number\) for 1 of 2 examples, first for example 1"):
        right(reference, reference, unlabelled(2))


def test_an_answer_that_is_nan_never_counts() -> None:
    assert right(scores([0, 1], [NAN, 1], [0, NAN]), scores([0, 1], [1, 0], [0, 1]), unlabelled(3)).tolist() == [
        True,
        False,
        False,
    ]
    labelled = Examples({"x": np.zeros((2, 1), np.float32)}, np.array([1, 0]))
    assert right(scores([0, 1], [NAN, 1]), scores([0, 1], [1, 0]), labelled).tolist() == [True, False]


def test_nan_in_any_output_makes_the_whole_answer_wrong() -> None:
    spoilt = np.array([[0, 1], [0, NAN], [0, 1]], np.float32)
    alone = {"y": np.eye(3, dtype=np.float32), "z": np.zeros((3, 2), np.float32), "n": np.array([1, 2])}
    clean = answers(lambda inputs: alone, unlabelled(3), batch=3)
    found = answers(lambda inputs: {**alone, "z": spoilt}, unlabelled(3), batch=3)
    assert right(found, clean, unlabelled(3)).tolist() == [True, False, True]
    shared = answers(lambda inputs: {**alone, "s": np.array(NAN, np.float32)}, unlabelled(3), batch=3)
    assert not right(shared, clean, unlabelled(3)).any()
    listed: Any = {**alone, "maps": [{1: NAN}, {1: 0.5}, {1: 0.5}]}
    assert right(answers(lambda inputs: listed, unlabelled(3), batch=3), clean, unlabelled(3)).all()
    with pytest.raises(Refused, match="answers NaN"):
        right(clean, found, unlabelled(3))


def test_a_request_answered_with_nan_is_not_right() -> None:
    labelled = Examples({"x": np.zeros((1, 1), np.float32)}, np.array([0]))
    assert labelled.judge(0, {"y": np.array([[NAN, 1.0]], np.float32)}) is False
    assert labelled.judge(0, {"y": np.array([[2.0, -INF]], np.float32)}) is True


def test_scores_of_infinity_are_compared_as_they_are() -> None:
    reference = scores([-INF, 1, 2], [-INF, 1, 2])
    assert right(scores([-INF, 1, 2], [-INF, 3, 2]), reference, unlabelled(2)).tolist() == [True, False]
    assert squared_error(reference, reference) == 0.0


def test_maps_with_infinities_agree_where_they_are_alike() -> None:
    theirs = Answers(np.array([[-INF, 1, 2, 3], [-INF, 1, 2, 3]], np.float32), (2, 2))
    ours = Answers(np.array([[-INF, 1, 2, 3], [0, 1, 2, 3]], np.float32), (2, 2))
    assert right(ours, theirs, unlabelled(2)).tolist() == [True, False]


def test_the_error_stays_a_number_where_answers_are_none() -> None:
    reference = scores([0, 1], [1, 0])
    broken = [squared_error(scores([each, 1], [1, 0]), reference) for each in (NAN, INF, -INF)]
    assert broken == [pytest.approx(250_000.0)] * 3
    assert squared_error(scores([0, 1], [1, 0.5]), reference) == pytest.approx(0.0625 / 0.25)
