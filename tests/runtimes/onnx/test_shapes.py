"""Binding of open axes: what is decided by name, what must be said, and how it is asked for."""

from __future__ import annotations

import ast

import hypothesis.strategies as st
import onnx
import pytest
from hypothesis import given

from amble.core.errors import Refused
from amble.runtimes.onnx.shapes import bind
from tests.runtimes.models import FLOAT, INT64, model, node, value, weight

Axes = list[int | str | None] | None


def network(**inputs: Axes) -> onnx.ModelProto:
    values = [value(name, axes) for name, axes in inputs.items()]
    return model([node("Identity", [next(iter(inputs))], ["y"])], values, [value("y", None)])


def bound(content: onnx.ModelProto, batch: int = 1, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {port.name: port.shape for port in bind(content, "net", batch, shapes)}


@pytest.mark.parametrize("symbol", ["batch", "N", "batch_size", "unk__3", "?", None, "p2o.DynamicDimension.0"])
def test_a_first_open_axis_is_the_batch(symbol: str | None) -> None:
    assert bound(network(x=[symbol, 3, 8, 8]), batch=5) == {"x": (5, 3, 8, 8)}


def test_an_axis_called_batch_is_the_batch_wherever_it_is() -> None:
    assert bound(network(state=[2, "batch", 128]), batch=3) == {"state": (2, 3, 128)}
    assert bound(network(x=["seq_len", "batch", 7]), batch=3, x=(9, 3, 7)) == {"x": (9, 3, 7)}


def test_a_first_axis_called_a_sequence_is_not_the_batch() -> None:
    with pytest.raises(Refused, match=r"axis 0 \(seq_len\) of input 'x' is open"):
        bound(network(x=["seq_len", 4]))


def test_one_symbol_has_one_size_everywhere() -> None:
    content = network(ids=["batch", "tokens"], mask=["batch", "tokens"])
    assert bound(content, batch=2, ids=(2, 16)) == {"ids": (2, 16), "mask": (2, 16)}


def test_two_sizes_for_one_symbol_are_refused() -> None:
    with pytest.raises(Refused, match="'tokens' would be both 16 and 17"):
        bound(network(ids=["batch", "tokens"], mask=["batch", "tokens"]), ids=(1, 16), mask=(1, 17))


def test_nameless_axes_are_not_the_same_axis() -> None:
    assert bound(network(x=["batch", 3, "?", "?"]), x=(1, 3, 48, 320)) == {"x": (1, 3, 48, 320)}
    with pytest.raises(Refused, match="axis 1 of input 'b'"):
        bound(network(a=["batch", "?"], b=["batch", "?"]), a=(1, 5))


def test_an_open_axis_is_asked_for_with_an_example_to_copy() -> None:
    with pytest.raises(Refused) as refusal:
        bound(network(x=["batch", 3, "height", "width"]), batch=4)
    assert "axis 2 (height) of input 'x'" in str(refusal.value)
    assert "--shape x:4,3,224,224" in str(refusal.value)
    assert "shapes={'x': (4, 3, 224, 224)}" in str(refusal.value)


def asked_for(content: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes that a refusal says in Python."""
    with pytest.raises(Refused) as refusal:
        bound(content)
    assert "\n" not in str(refusal.value)
    found: dict[str, tuple[int, ...]] = ast.literal_eval(str(refusal.value).partition("shapes=")[2])
    assert all(f"--shape {name}:{','.join(map(str, shape))}" in str(refusal.value) for name, shape in found.items())
    return found


AXES: st.SearchStrategy[Axes] = st.none() | st.lists(
    st.sampled_from([1, 0, None, "?", "batch", "tokens", "height", "seq_len"]), max_size=5
)


@given(st.dictionaries(st.sampled_from("abcd"), AXES, min_size=1))
def test_all_open_axes_are_asked_for_at_once_and_the_shapes_to_copy_close_them(inputs: dict[str, Axes]) -> None:
    content = network(**inputs)
    try:
        shapes = bound(content)
    except Refused:
        shapes = bound(network(**inputs), **asked_for(network(**inputs)))  # type: ignore[arg-type]
    assert all(size > 0 for shape in shapes.values() for size in shape)


def test_every_open_axis_is_named_in_the_one_line() -> None:
    content = network(ids=["batch", "tokens"], picture=["batch", 3, "height", "width"], whole=None)
    with pytest.raises(Refused) as refusal:
        bound(content)
    for part in ("(tokens) of input 'ids'", "(height) of", "(width) of input 'picture'", "'whole' has no shape"):
        assert part in str(refusal.value)
    assert asked_for(content) == {"ids": (1, 128), "picture": (1, 3, 224, 224), "whole": (1, 3, 224, 224)}


def test_a_symbol_that_one_shape_settles_is_asked_for_once() -> None:
    assert asked_for(network(ids=["batch", "tokens"], mask=["batch", "tokens"])) == {"ids": (1, 128)}


def test_an_input_without_any_shape_must_be_given() -> None:
    with pytest.raises(Refused, match="has no shape in the file"):
        bound(network(x=None))
    assert bound(network(x=None), x=(1, 2)) == {"x": (1, 2)}


def test_fixed_axes_may_be_replaced_by_saying_so() -> None:
    content = network(x=[10, 3, 32, 32])
    assert bound(content, x=(1, 3, 64, 96)) == {"x": (1, 3, 64, 96)}
    assert [dim.dim_value for dim in content.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 96]


def test_pictures_fixed_to_another_batch_are_refused() -> None:
    with pytest.raises(Refused, match="fixed to batch 10; ask for batch 10"):
        bound(network(x=[10, 3, 32, 32]))
    assert bound(network(x=[10, 3, 32, 32]), batch=10) == {"x": (10, 3, 32, 32)}


def test_a_batch_that_nothing_can_take_is_refused() -> None:
    with pytest.raises(Refused, match="fixed to batch 1"):
        bound(network(x=[1, 8]), batch=4)
    assert bound(network(x=[76, 32]), batch=1) == {"x": (76, 32)}, "a first axis need not be the batch"


def test_a_shape_that_contradicts_the_batch_is_refused() -> None:
    with pytest.raises(Refused, match="has batch 8, but the batch is 1"):
        bound(network(x=["batch", 3]), x=(8, 3))


def test_unknown_inputs_and_wrong_ranks_are_refused() -> None:
    with pytest.raises(Refused, match="no input 'z'; its inputs are x"):
        bound(network(x=["batch", 3]), z=(1, 3))
    with pytest.raises(Refused, match="has 2 axes, the shape"):
        bound(network(x=["batch", 3]), x=(1, 3, 3))


@pytest.mark.parametrize(("batch", "shape"), [(0, (1, 3)), (1, (1, 0)), (-1, (1, 3))])
def test_sizes_are_positive(batch: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        bound(network(x=["batch", 3]), batch, x=shape)


def test_weights_listed_among_the_inputs_are_not_inputs() -> None:
    content = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["batch", 4]), value("w", [4, 4])],
        [value("y", None)],
        [weight("w", 4, 4)],
    )
    assert bound(content) == {"x": (1, 4)}


def test_scalars_have_no_axes() -> None:
    content = model(
        [node("Identity", ["sr"], ["y"])], [value("x", ["batch", 4]), value("sr", [], INT64)], [value("y", [], INT64)]
    )
    assert bound(content) == {"x": (1, 4), "sr": ()}


def test_sequences_are_refused() -> None:
    content = network(x=["batch", 4])
    content.graph.input.append(onnx.helper.make_tensor_sequence_value_info("many", FLOAT, [1]))
    with pytest.raises(Refused, match="'many' is not a tensor"):
        bound(content)


def test_inferred_shapes_are_forgotten() -> None:
    content = network(x=["batch", 4])
    content.graph.value_info.append(value("inner", ["batch", 4]))
    content.graph.output[0].CopyFrom(value("y", ["batch", 4]))
    bound(content, batch=2)
    assert not content.graph.value_info
    assert not content.graph.output[0].type.tensor_type.HasField("shape")
