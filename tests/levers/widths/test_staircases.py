"""Prices of layers that fit the whole network as it was measured."""

import pytest

from amble.core.subject import Where
from amble.levers.widths.choosing import Pricing
from amble.levers.widths.network import Group, Layer, Network
from amble.levers.widths.staircase import Point, Staircase, StaircaseTable, shape_of
from amble.levers.widths.staircases import anchored

NETWORK = Network(
    "net",
    (
        Layer("first", "conv", (), "a", 3, 64, kernel=(3, 3), padding=(1, 1), size=(8, 8)),
        Layer("second", "conv", ("a",), None, 64, 32, size=(8, 8)),
    ),
    (Group("a", tuple(float(each) for each in range(64))),),
)
KINDS = ("Sub", "Conv", "ReorderOutput", "Conv", "ReorderOutput", "ReduceMean")
COSTS_S = (2e-6, 50e-6, 4e-6, 30e-6, 3e-6, 5e-6)
WHOLE_S, ENTERING_S = 100e-6, 6e-6


def _bare() -> Pricing:
    """Price every layer at a microsecond for each output channel of today's, half of it at half of the group's."""

    def staircase(layer: Layer) -> Staircase:
        points = tuple(
            Point(i, o, 1e-6 * (o if layer.outputs else i), 0.0, None, 9)
            for i in ((32, 64) if layer.inputs else (3,))
            for o in ((32, 64) if layer.outputs else (32,))
        )
        return Staircase(shape_of(layer, NETWORK), points)

    return Pricing(NETWORK, StaircaseTable(Where("d", "c"), "l", "fp32", 1, 0, tuple(map(staircase, NETWORK.layers))))


def _priced() -> Pricing:
    return anchored(_bare(), KINDS, COSTS_S, whole=WHOLE_S, entering=ENTERING_S)


def test_the_whole_network_is_priced_as_it_was_measured() -> None:
    assert _priced().total({}) == pytest.approx(WHOLE_S)


def test_conversions_before_a_layer_are_its_own_and_those_at_the_end_are_not() -> None:
    found = _priced()
    assert found.others == pytest.approx(3e-6 + 5e-6)
    assert found.rest == pytest.approx(2e-6 + ENTERING_S)


def test_what_layers_take_beyond_their_staircases_goes_with_their_times() -> None:
    bare, found = _bare(), _priced()
    assert found.scale == pytest.approx((WHOLE_S - 8e-6 - 8e-6) / bare.total({}))
    half = {"a": 32}
    for layer in NETWORK.layers:
        assert found.alone(layer, half) == pytest.approx(0.5 * found.alone(layer, {}))
    assert found.total(half) - found.rest < 0.6 * (found.total({}) - found.rest)


def test_a_whole_that_is_shorter_than_its_parts_leaves_layers_a_positive_time() -> None:
    found = anchored(_bare(), KINDS, COSTS_S, whole=12e-6, entering=ENTERING_S)
    assert found.scale > 0
    assert found.total({}) == pytest.approx(12e-6)
