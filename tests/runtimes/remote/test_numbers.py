"""Lists of JSON are read piece by piece to what they say, and whatever is no tensor is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json, to_list


def read(data: Any, kind: str, *shape: int) -> Any:
    return from_json("x", kind, shape, json.dumps(data).encode())


def test_whole_numbers_beyond_half_of_64_bits_are_exact() -> None:
    numbers = [2**64 - 1, 2**63 + 1, 1]
    assert read(numbers, "UINT64", 3).tolist() == numbers
    assert read([-(2**63), 2**63 - 1], "INT64", 2).tolist() == [-(2**63), 2**63 - 1]
    with pytest.raises(Fault, match="UINT64 cannot"):
        read([2**64], "UINT64", 1)


def test_many_numbers_are_read_in_pieces_to_the_same() -> None:
    numbers = np.random.default_rng(0).integers(-(10**9), 10**9, (300, 100, 2))
    assert np.array_equal(read(numbers.tolist(), "INT64", 300, 100, 2), numbers)
    assert np.array_equal(read(numbers.ravel().tolist(), "INT64", 300, 100, 2), numbers)


@given(st.lists(st.floats(width=32), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_every_float_comes_back_even_those_that_json_has_no_number_for(numbers: list[float]) -> None:
    said = json.loads(json.dumps(to_list(np.array(numbers, np.float32)), allow_nan=False))
    assert np.array_equal(read(said, "FP32", len(numbers)), np.array(numbers, np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "kind", "shape"),
    [
        (b"[[1],[2,3]]", "FP32", (3,)),
        (b"[[1],2]", "FP32", (2,)),
        (b"[1,[2]]", "FP32", (2,)),
        (b"[[[1]],[2]]", "FP32", (2,)),
        (b"[[1,2],[],[3]]", "FP32", (4,)),
        (b"[[],[]]", "FP32", (2,)),
        (b"[[1,2],[3,4],[5]]", "INT8", (5,)),
        (b"[" * 40 + b"1,2" + b"]" * 40, "INT8", (2,)),
        (b"[1,true]", "INT8", (2,)),
        (b"[1,null]", "FP64", (2,)),
        (b'["nan"]', "FP64", (1,)),
        (b"[1.5]", "INT32", (1,)),
        (b"[1]", "BOOL", (1,)),
        (b"[1e39]", "FP32", (1,)),
        (b'["NaN",1e39]', "FP32", (2,)),
        (b"[-3.5e38]", "FP32", (1,)),
        (b"[1,2,3]", "FP32", (2,)),
        (b'[["a"],"b"]', "BYTES", (2,)),
        (b'"ab"', "BYTES", (2,)),
    ],
)
def test_what_is_no_tensor_is_refused(text: bytes, kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(Fault, match="'x'"):
        from_json("x", kind, shape, text)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_lists_nested_as_any_tensor_are_taken(shape: list[int]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(read(array.tolist(), "INT32", *shape), array)


def test_the_largest_float_is_one_however_it_is_written() -> None:
    largest = float(np.finfo(np.float32).max)
    assert from_json("x", "FP32", (2,), b"[3.4028235e38,-3.4028235e38]").tolist() == [largest, -largest]


def test_nothing_is_nothing() -> None:
    assert read([], "FP32", 0).shape == (0,)
