"""The highest scores as texts: their order, their rows, and what has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.classes import classes_of, classified
from tests.services.serve.house import House, house


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", "many", "single") as found:
        yield found


def asking(count: object) -> dict[str, Any]:
    return {"outputs": [{"name": "x_out", "parameters": {"classification": count}}]}


def test_each_row_has_its_own_classes(open_house: House) -> None:
    status, found, _ = open_house.infer([1.0, 3.0, 5.0, 4.0], **asking(1))
    assert status == 200
    (output,) = found["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 1])
    assert output["data"] == ["6.000000:1", "10.000000:0"]


def test_more_than_there_are_gives_all_and_none_gives_the_scores(open_house: House) -> None:
    assert open_house.infer([1.0, 3.0], **asking(9))[1]["outputs"][0]["shape"] == [1, 2]
    assert open_house.infer([1.0, 3.0], **asking(0))[1]["outputs"][0]["data"] == [2.0, 6.0]


def test_without_a_batch_the_whole_tensor_is_asked(open_house: House) -> None:
    found = open_house.infer([1.0, 3.0], model="single", **asking(1))[1]["outputs"][0]
    assert (found["shape"], found["data"]) == ([1], ["6.000000:1"])


@pytest.mark.parametrize("count", [-1, True, "1", 1.5, 1001])
def test_what_is_no_number_of_classes_is_refused(open_house: House, count: object) -> None:
    status, found, _ = open_house.infer([1.0, 3.0], **asking(count))
    assert (status, "classification" in found["error"]) == (400, True)


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int8", "int64", "uint8", "uint64", "bool"])
def test_the_order_is_that_of_the_numbers(kind: str) -> None:
    draw = np.random.default_rng(5)
    made = np.abs(draw.normal(size=(3, 2, 5)) * 50).astype(kind)
    for row, texts in zip(made.reshape(3, -1), classified(made, 4, True), strict=True):
        order = [index for _, index in sorted((-each, index) for index, each in enumerate(row.tolist()))]
        assert [int(text.partition(":")[2]) for text in texts] == order[:4]


def test_extremes_equal_scores_and_what_is_no_number() -> None:
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert classified(np.array([least, 0, most]), 3, False).tolist() == [f"{most}:2", "0:1", f"{least}:0"]
    assert classified(np.array([1.0, np.nan, 1.0]), 3, False).tolist() == ["1.000000:0", "1.000000:2", "nan:1"]
    with pytest.raises(Fault, match="no scores"):
        classified(np.array(["a"], np.object_), 1, True)
    assert classes_of("y", {}) == 0


def test_sequences_and_settings_are_refused_with_the_reason(open_house: House) -> None:
    status, found, _ = open_house.infer([1.0, 3.0], parameters={"sequence_id": 7, "sequence_start": True})
    assert (status, "no state" in found["error"]) == (400, True)
    assert open_house.infer([1.0, 3.0], parameters={"sequence_id": 0})[0] == 200
    for path in ("/v2/trace/setting", "/v2/models/plain/trace/setting", "/v2/logging"):
        for method in ("GET", "POST"):
            status, found, _ = open_house.call(method, path, {} if method == "POST" else None)
            assert (status, "start the server with" in found["error"]) == (501, True)
