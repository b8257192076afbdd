"""Requests cut apart on the wire, against protobuf's own reading of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amble.services.serve.doors.wire import cut

triton = pytest.importorskip("tritonclient.grpc")
Request = triton.service_pb2.ModelInferRequest


@given(st.lists(st.binary(max_size=300), max_size=3), st.text(max_size=5), st.integers(-(2**63), 2**63 - 1))
def test_what_is_cut_apart_is_what_protobuf_reads(raw: list[bytes], name: str, timeout: int) -> None:
    made = Request(model_name=name, raw_input_contents=raw, id="7")
    made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    made.parameters["timeout"].int64_param = timeout
    small, found = cut(made.SerializeToString())
    assert [bytes(each) for each in found] == raw
    del made.raw_input_contents[:]
    assert Request.FromString(small) == made


def test_tensors_between_other_fields_are_found_in_order() -> None:
    parts = [Request(raw_input_contents=[b"ab"]), Request(id="7"), Request(raw_input_contents=[b"c", b""])]
    small, found = cut(b"".join(each.SerializeToString() for each in parts))
    assert [bytes(each) for each in found] == [b"ab", b"c", b""]
    assert Request.FromString(small) == Request(id="7")


@given(st.binary(max_size=60))
def test_no_bytes_whatsoever_do_more_harm_than_an_error(message: bytes) -> None:
    try:
        small, raw = cut(message)
    except ValueError:
        return
    assert len(small) + sum(map(len, raw)) <= len(message)


@pytest.mark.parametrize("message", [b"\x3a\x05ab", b"\x3a", b"\xff" * 12, b"\x0b", b"\x0d\x00"])
def test_a_message_that_is_cut_off_is_an_error(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|without an end|wire type"):
        cut(message)
