"""Made-up inputs: right shapes and types, and values that networks can take."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.runtimes.onnx.feeds import made_up, vocabularies
from tests.runtimes.models import INT64, constant, model, node, value, weight


def drawn(name: str, shape: tuple[int, ...], dtype: str, rows: int | None = None) -> np.ndarray:
    return made_up((Port(name, shape, dtype),), {} if rows is None else {name: rows}, 0, of="net.onnx")[name]


DTYPES = {"float": "f4", "double": "f8", "float16": "f2", "int8": "i1", "int32": "i4", "uint8": "u1", "bool": "?"}


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_shapes_and_types_are_those_asked_for(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = drawn("x", shape, dtype)
    assert tensor.shape == shape
    assert tensor.dtype == np.dtype(DTYPES[dtype])


def test_whole_numbers_without_a_vocabulary_are_zero_or_one() -> None:
    assert set(drawn("ids", (100,), "int64").tolist()) == {0, 1}
    assert drawn("ids", (1000,), "int64", rows=30).max() == 29


@pytest.mark.parametrize(
    ("name", "expected"),
    [("attention_mask", [1, 1, 1]), ("token_type_ids", [0, 0, 0]), ("position_ids", [0, 1, 2]), ("x_lens", [1, 1, 1])],
)
def test_some_inputs_are_known_by_name(name: str, expected: list[int]) -> None:
    assert drawn(name, (3,), "int64", rows=99).tolist() == expected


def test_a_sampling_rate_is_one_that_speech_has() -> None:
    assert drawn("sr", (), "int64") == 16000


def test_texts_are_digits_that_can_be_read_as_numbers() -> None:
    words = drawn("words", (2, 3), "string")
    assert words.shape == (2, 3)
    assert set(words.ravel().tolist()) <= {"0", "1"}


def test_what_cannot_be_made_up_is_refused_with_the_file() -> None:
    with pytest.raises(Refused, match=r"net.onnx: input 'z' has element type complex64"):
        drawn("z", (1,), "complex64")


def test_a_vocabulary_is_the_table_that_an_input_looks_up() -> None:
    nodes = [
        node("Gather", ["large", "ids"], ["a"]),
        node("Gather", ["small", "ids"], ["b"]),
        node("Cast", ["other"], ["cast"], to=INT64),
        node("Gather", ["large", "cast"], ["c"]),
        node("Gather", ["a", "axis"], ["d"]),
    ]
    inputs = [value("ids", [3], INT64), value("other", [3], INT64)]
    weights = [weight("large", 70, 2), weight("small", 40, 2), constant("axis", 0)]
    graph = model(nodes, inputs, [value("d", None)], weights).graph
    assert vocabularies(graph) == {"ids": 40, "other": 70}
