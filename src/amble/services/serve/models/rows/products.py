"""Products: which of them sum over the rows, and on which axis of the result the rows are otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from amble.services.serve.models.rows.facts import Call, Cell, Fact, Rule, broadcast, widest

__all__ = ["PRODUCTS"]


def _matmul(call: Call) -> list[Fact]:
    quantised = call.node.op_type == "QLinearMatMul"
    second = 3 if quantised else 1
    call.others_fixed(0, second)
    a, b = call.given(0), call.given(second)
    if a.sized or b.sized:
        call.fail("computes with the number of rows")
    left, right = call.shape(0), call.shape(second)
    if len(right) == 1 and a.axis is not None and b.axis is None and a.axis < len(left) - 1:
        return [Fact(left[:-1], a.axis)]
    if len(left) < 2 or len(right) < 2:
        call.fail("sums over the rows")
    if a.axis == len(left) - 1 or b.axis == len(right) - 2:
        call.fail("sums over the rows")
    return [_product(call, (left, a.axis), (right, b.axis))]


def _product(call: Call, a: tuple[tuple[Cell, ...], int | None], b: tuple[tuple[Cell, ...], int | None]) -> Fact:
    """Multiply stacks of matrices: the operand's own axis is alone, the stacks are put over one another."""
    (left, a_axis), (right, b_axis) = a, b
    rank = max(len(left), len(right))
    if a_axis == len(left) - 2 and b_axis is None:
        return Fact(_stacked(left, right, rank), rank - 2)
    if b_axis == len(right) - 1 and a_axis is None:
        return Fact(_stacked(left, right, rank), rank - 1)
    if a_axis == len(left) - 2 or b_axis == len(right) - 1:
        call.fail("joins rows of one operand with all rows of the other")
    stacks = broadcast(call, [((*left[:-2], 1), a_axis), ((*right[:-2], 1), b_axis)])
    assert stacks.shape is not None, "broadcasting gives a shape"
    return Fact((*stacks.shape[:-1], left[-2], right[-1]), stacks.axis)


def _stacked(left: tuple[Cell, ...], right: tuple[Cell, ...], rank: int) -> tuple[Cell, ...]:
    a, b = (1,) * (rank - len(left)) + left[:-2], (1,) * (rank - len(right)) + right[:-2]
    return (*(widest(pair) for pair in zip(a, b, strict=True)), left[-2], right[-1])


def _gemm(call: Call) -> list[Fact]:
    call.all_fixed(1)
    shape, axis = call.shape(0), call.rows(0)
    if axis != (1 if call.attribute("transA", 0) else 0):
        call.fail("sums over the rows")
    columns = call.shape(1)[0 if call.attribute("transB", 0) else 1]
    made: tuple[Cell, ...] = (shape[axis], columns)
    added = call.optional(2)
    if added is None:
        return [Fact(made, 0)]
    if added.sized:
        call.fail("computes with the number of rows")
    return [broadcast(call, [(made, 0), (call.shape(2), added.axis)])]


def _einsum(call: Call) -> list[Fact]:
    text = call.attribute("equation").decode().replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if "." in text or not arrow or len(terms) != len(call.inputs):
        call.fail("has an equation that is not followed")
    letters = {term[each.axis] for term, each in zip(terms, call.inputs, strict=True) if each and each.axis is not None}
    blocks = {each.shape[each.axis] for each in call.inputs if each and each.shape and each.axis is not None}
    plain = [term for term, each in zip(terms, call.inputs, strict=True) if each is None or each.axis is None]
    letter = letters.pop() if len(letters) == 1 and len(blocks) == 1 else ""
    if not letter or right.count(letter) != 1 or any(letter in each for each in plain):
        call.fail("sums over the rows, or joins rows with others")
    if any(each is not None and each.sized for each in call.inputs) or any(t.count(letter) > 1 for t in terms):
        call.fail("computes with the number of rows")
    place = right.index(letter)
    return [Fact(tuple(blocks.pop() if index == place else None for index in range(len(right))), place)]


PRODUCTS: Mapping[str, Rule] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    "Gemm": _gemm,
    "Einsum": _einsum,
}
