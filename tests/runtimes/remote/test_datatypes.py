"""Arrays come back from bytes and lists as they were, and what is none is a fault."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.core.graph import Port
from amble.runtimes.remote.datatypes import DATATYPES, datatype, from_bytes, to_bytes
from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json


@pytest.mark.parametrize("kind", [kind for kind in DATATYPES if kind != "BYTES"])
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_binary_tensor_comes_back_bit_by_bit(kind: str, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    size = int(np.prod(shape, dtype=int)) * DATATYPES[kind].itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    found = from_bytes("x", kind, shape, memoryview(raw))
    assert found.shape == shape
    assert found.dtype == DATATYPES[kind]
    assert to_bytes(found, kind) == raw


@given(texts=st.lists(st.text(max_size=5), min_size=1, max_size=6))
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    raw = to_bytes(np.array(texts, dtype=object), "BYTES")
    assert from_bytes("s", "BYTES", (len(texts),), raw).tolist() == texts


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_not_rounded_on_their_way_through_json(number: int) -> None:
    assert from_json("x", "INT64", (1,), b"[%d]" % number).tolist() == [number]


def test_an_odd_place_in_the_body_does_not_give_an_unaligned_array() -> None:
    raw = memoryview(b"abc" + np.arange(4, dtype=np.float64).tobytes())[3:]
    assert from_bytes("x", "FP64", (4,), raw).flags.aligned


@pytest.mark.parametrize(
    ("raw", "names"), [(b"\x05\x00\x00\x00ab", "cut off"), (b"\x01\x00", "cut off"), (b"\x01\x00\x00\x00\xff", "UTF-8")]
)
def test_texts_that_are_cut_off_or_no_text_are_refused(raw: bytes, names: str) -> None:
    with pytest.raises(Fault, match=names):
        from_bytes("s", "BYTES", (1,), raw)


def test_a_type_that_the_protocol_has_not_is_refused_when_the_model_is_loaded() -> None:
    with pytest.raises(ValueError, match="complex64"):
        datatype(Port("x", (1,), "complex64"))
