"""Operators that move, cut and measure tensors without looking at their elements: how each carries the rows on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx import numpy_helper

from amble.services.serve.models.rows.facts import Call, Cell, Fact, Rule, Times, known, product

__all__ = ["SHAPING"]

_FEW = 64  # elements that a list of sizes may have
_END = 1 << 31  # exporters write such numbers for "to the end"


def _reshape(call: Call) -> list[Fact]:
    data = call.given(0)
    target = call.given(1)
    if data.axis is None:
        return [_of_numbers(call, data, target)]
    if target.axis is not None or target.values is None:
        call.fail("takes a shape whose elements are not known before it runs")
    shape = call.shape(0)
    return [_kept(call, shape, data.axis, _resolved(call, shape, target.values))]


def _of_numbers(call: Call, data: Fact, target: Fact) -> Fact:
    """Reshape what holds no rows: its elements stay the same, as long as the shape does."""
    if target.axis is not None or target.sized:
        call.fail("gives a fixed tensor a shape that depends on the number of rows")
    if target.values == (-1,) and data.values is not None:
        return Fact((len(data.values),), None, data.values, data.sized)
    return Fact(target.values if target.values and -1 not in target.values else None, None, data.values, data.sized)


def _resolved(call: Call, shape: tuple[Cell, ...], target: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Fill in a target shape's zeros (as it was) and its −1 (what is left)."""
    plain = not call.attribute("allowzero", 0)
    if plain and any(each == 0 and index >= len(shape) for index, each in enumerate(target)):
        call.fail("copies a size that its input has not")
    wanted = [shape[index] if plain and each == 0 else each for index, each in enumerate(target)]
    if -1 in wanted:
        place = wanted.index(-1)
        wanted[place] = _left(product(shape), product([*wanted[:place], *wanted[place + 1 :]]))
    return tuple(wanted)


def _left(whole: Cell, others: Cell) -> Cell:
    """Divide sizes; None where that does not come out."""
    match whole, others:
        case Times(a), int(b) if b > 0 and a % b == 0:
            return Times(a // b)
        case Times(a), Times(b) if b > 0 and a % b == 0:
            return a // b
        case int(a), int(b) if b > 0 and a % b == 0:
            return a // b
    return None


def _kept(call: Call, shape: tuple[Cell, ...], axis: int, wanted: tuple[Cell, ...]) -> Fact:
    """Reshape so that each row keeps its own elements, in their order.

    In memory there are some stretches, in each the rows, of each a block: ``A`` × rows × ``C`` elements. What is before
    the axis of the rows must go into ``A`` a whole number of times, what is behind it into ``C``.
    """
    if known(shape[:axis]) and wanted[: axis + 1] == shape[: axis + 1]:
        return Fact(wanted, axis)
    place = next((index for index, cell in enumerate(wanted) if isinstance(cell, Times)), None)
    size, before, behind = shape[axis], product(shape[:axis]), product(shape[axis + 1 :])
    if place is not None and isinstance(size, Times) and isinstance(before, int) and isinstance(behind, int):
        stretches, block = before * size.outer, size.each // size.outer * behind
        match product(wanted[:place]), wanted[place], product(wanted[place + 1 :]):
            case int(first), Times(each), int(last) if not stretches % max(1, first) and not block % max(1, last):
                outer = stretches // max(1, first)
                if each == outer * (block // max(1, last)):
                    return Fact((*wanted[:place], Times(each, outer), *wanted[place + 1 :]), place)
    return call.fail("changes the shape so that rows cannot be told apart")


def _flatten(call: Call) -> list[Fact]:
    shape, axis = call.shape(0), call.rows(0)
    cut = call.attribute("axis", 1)
    cut = cut + len(shape) if cut < 0 else cut
    if axis != 0 or cut < 1:
        call.fail("joins the rows with another axis")
    return [Fact((product(shape[:cut]), product(shape[cut:])), 0)]


def _transpose(call: Call) -> list[Fact]:
    shape, axis = call.shape(0), call.rows(0)
    order = [call.place(each, len(shape)) for each in call.attribute("perm", range(len(shape))[::-1])]
    return [Fact(tuple(shape[each] for each in order), order.index(axis))]


def _shape(call: Call) -> list[Fact]:
    shape = call.shape(0)
    sizes = [Times(each.each) if isinstance(each, Times) else each for each in shape]
    values = tuple(sizes[slice(call.attribute("start", 0), call.attribute("end", None))])
    return [Fact((len(values),), None, values, any(isinstance(each, Times) for each in values))]


def _size(call: Call) -> list[Fact]:
    return [Fact((), None, (product(call.shape(0)),), not call.given(0).fixed)]


def _unsqueeze(call: Call) -> list[Fact]:
    data, axes = call.given(0), call.axes(1)
    if axes is None:
        call.fail("has no axes")
    if data.axis is None:
        return [replace(data, shape=(1,)) if data.shape == () else Fact(sized=data.sized)]
    shape = call.shape(0)
    rank = len(shape) + len(axes)
    new = {call.place(each, rank) for each in axes}
    old = iter(shape)
    made = tuple(1 if place in new else next(old) for place in range(rank))
    left = [place for place in range(rank) if place not in new]
    return [Fact(made, left[call.rows(0)])]


def _squeeze(call: Call) -> list[Fact]:
    data = call.given(0)
    if data.axis is None:
        return [replace(data, shape=()) if data.shape == (1,) else Fact(sized=data.sized)]
    shape, axis, axes = call.shape(0), call.rows(0), call.axes(1)
    if axes is None:
        call.fail("drops whatever axis has one element, the rows' among them")
    gone = {call.place(each, len(shape)) for each in axes}
    if axis in gone:
        call.fail("drops the axis of the rows")
    left = [place for place in range(len(shape)) if place not in gone]
    return [Fact(tuple(shape[place] for place in left), left.index(axis))]


def _concat(call: Call) -> list[Fact]:
    given = [each for each in call.inputs if each is not None]
    if all(each.axis is None for each in given):
        lists = [each.values if each.shape is not None and len(each.shape) == 1 else None for each in given]
        values = None if None in lists else tuple(cell for each in lists if each is not None for cell in each)
        return [Fact(None if values is None else (len(values),), None, values, any(each.sized for each in given))]
    axis = next(each.axis for each in given if each.axis is not None)
    if any(each.axis != axis for each in given):
        call.fail("puts rows beside a tensor that has none on that axis")
    shape = call.shape(0)
    place = call.place(call.attribute("axis"), len(shape))
    if place == axis or len({call.shape(index)[axis] for index in range(len(given))}) > 1:
        call.fail("adds to the axis of the rows")
    sizes = [call.shape(index)[place] for index in range(len(given))]
    whole = sum(each for each in sizes if isinstance(each, int)) if all(isinstance(s, int) for s in sizes) else None
    return [Fact((*shape[:place], whole, *shape[place + 1 :]), axis)]


def _split(call: Call) -> list[Fact]:
    shape, axis = call.shape(0), call.rows(0)
    call.all_fixed(1)
    place = call.place(call.attribute("axis", 0), len(shape))
    if place == axis:
        call.fail("cuts the axis of the rows")
    return [Fact((*shape[:place], None, *shape[place + 1 :]), axis) for _ in call.node.output]


def _slice(call: Call) -> list[Fact]:
    data = call.given(0)
    if data.axis is None:
        return [_cut(call, data)]
    call.others_fixed(0)
    shape = list(call.shape(0))
    axes = call.numbers(3) if call.optional(3) is not None else tuple(range(len(call.numbers(1))))
    for index, axis in enumerate(axes):
        place = call.place(axis, len(shape))
        if place != data.axis:
            shape[place] = None
            continue
        step = call.numbers(4)[index] if call.optional(4) is not None else 1
        if call.numbers(1)[index] != 0 or step != 1 or call.numbers(2)[index] < _END - 1:
            call.fail("cuts the axis of the rows")
    return [Fact(tuple(shape), data.axis)]


def _cut(call: Call, data: Fact) -> Fact:
    """Cut a fixed tensor, or a list of sizes."""
    if data.fixed and data.values is None:
        axes = call.numbers(3) if call.optional(3) is not None else tuple(range(len(call.shape(0))))
        cut = {call.place(each, len(call.shape(0))) for each in axes}
        return Fact(tuple(None if place in cut else each for place, each in enumerate(call.shape(0))))
    if data.values is None or data.shape is None or len(data.shape) != 1:
        call.fail("cuts a tensor that depends on the number of rows")
    step = call.numbers(4)[0] if call.optional(4) is not None else 1
    values = data.values[call.numbers(1)[0] : call.numbers(2)[0] : step]
    return Fact((len(values),), None, values, any(isinstance(each, Times) for each in values))


def _gather(call: Call) -> list[Fact]:
    data, indices = call.given(0), call.given(1)
    if data.values is not None and data.axis is None and indices.fixed and call.attribute("axis", 0) == 0:
        return [_picked(call, data)]
    if data.sized or indices.sized:
        call.fail("picks by the number of rows")
    shape, picked = call.shape(0), call.shape(1)
    place = call.place(call.attribute("axis", 0), len(shape))
    made = (*shape[:place], *picked, *shape[place + 1 :])
    if data.axis is None:
        return [Fact(made, place + call.rows(1))]
    if indices.axis is not None:
        call.fail("picks from the rows by the rows")
    if data.axis == place:
        call.fail("picks from the axis of the rows")
    return [Fact(made, data.axis if data.axis < place else data.axis - 1 + len(picked))]


def _picked(call: Call, data: Fact) -> Fact:
    """Pick from a list of sizes."""
    values, places = data.values or (), call.numbers(1)
    if any(not -len(values) <= each < len(values) for each in places):
        call.fail("picks beyond the end")
    found = tuple(values[each] for each in places)
    return Fact(call.shape(1), None, found, any(isinstance(each, Times) for each in found))


def _gather_elements(call: Call) -> list[Fact]:
    shape, axis = call.shape(0), call.rows(0)
    place = call.place(call.attribute("axis", 0), len(shape))
    if place == axis or any(
        call.rows(index) != axis or call.shape(index)[axis] != shape[axis] for index in range(1, len(call.inputs))
    ):
        call.fail("picks across rows")
    return [Fact(call.shape(1) if len(call.inputs) == 2 else shape, axis)]


def _gather_nd(call: Call) -> list[Fact]:
    call.all_fixed(0)
    shape, axis = call.shape(1), call.rows(1)
    if call.attribute("batch_dims", 0) or axis == len(shape) - 1:
        call.fail("picks across rows")
    data, last = call.shape(0), shape[-1]
    if not isinstance(last, int):
        call.fail("picks by indices of unknown length")
    return [Fact((*shape[:-1], *data[last:]), axis)]


def _expand(call: Call) -> list[Fact]:
    data, values = call.given(0), call.given(1).values
    if values is None or call.given(1).axis is not None:
        call.fail("takes a shape whose elements are not known before it runs")
    shape = call.shape(0)
    rank = max(len(shape), len(values))
    old, new = (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(values)) + values
    made = tuple(a if b == 1 else b for a, b in zip(old, new, strict=True))
    places = [place for place in range(rank) if isinstance(made[place], Times)]
    if data.sized or len(places) != 1 or old[places[0]] not in (1, made[places[0]]):
        call.fail("repeats a tensor along the rows in a way that is not known")
    if data.axis is not None and places[0] != data.axis + rank - len(shape):
        call.fail("repeats the rows")
    return [Fact(made, places[0])]


def _constant_of_shape(call: Call) -> list[Fact]:
    values = call.given(0).values
    if call.given(0).fixed:
        return [_filled(call, values)]
    places = [place for place, each in enumerate(values or ()) if isinstance(each, Times)]
    if values is None or len(places) != 1:
        call.fail("makes a tensor of a shape that is not known before it runs")
    return [Fact(values, places[0])]


def _filled(call: Call, values: tuple[Cell, ...] | None) -> Fact:
    """Return a fixed tensor of one number, with its elements where it is a short list."""
    fill = call.attribute("value")
    number = 0 if fill is None else numpy_helper.to_array(fill).ravel()[0]
    match values:
        case (int(length),) if length <= _FEW and number == int(number):
            return Fact(values, None, (int(number),) * length)
    return Fact(values)


def _tile(call: Call) -> list[Fact]:
    shape, axis, repeats = call.shape(0), call.rows(0), call.numbers(1)
    if repeats[axis] != 1:
        call.fail("repeats the rows")
    made = [a * b if isinstance(a, int) else a if b == 1 else None for a, b in zip(shape, repeats, strict=True)]
    return [Fact(tuple(made), axis)]


def _pad(call: Call) -> list[Fact]:
    shape, axis, pads = call.shape(0), call.rows(0), call.numbers(1)
    call.all_fixed(2)
    axes = call.numbers(3) if call.optional(3) is not None else tuple(range(len(shape)))
    places = [call.place(each, len(shape)) for each in axes]
    if axis in places and (pads[places.index(axis)] or pads[len(places) + places.index(axis)]):
        call.fail("adds to the axis of the rows")
    return [Fact(tuple(each if place == axis else None for place, each in enumerate(shape)), axis)]


def _resize(call: Call) -> list[Fact]:
    shape, axis = call.shape(0), call.rows(0)
    call.all_fixed(1)
    if call.attribute("coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        call.fail("may crop the axis of the rows")
    scales, sizes = call.optional(2), call.optional(3)
    axes = call.attribute("axes") or range(len(shape))
    places = [call.place(each, len(shape)) for each in axes]
    if axis in places:
        wanted = sizes if sizes is not None else scales
        values = wanted.values if wanted is not None and wanted.axis is None else None
        if values is None or values[places.index(axis)] != (shape[axis] if sizes is not None else 1):
            call.fail("may change the axis of the rows")
    return [Fact(tuple(each if place == axis else None for place, each in enumerate(shape)), axis)]


SHAPING: Mapping[str, Rule] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Shape": _shape,
    "Size": _size,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "ScatterElements": _gather_elements,
    "GatherND": _gather_nd,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Tile": _tile,
    "Pad": _pad,
    "Resize": _resize,
}
