"""A segment of a graph is a graph that knows its place in the whole."""

from __future__ import annotations

import pytest

from tests.fakes import graph

WHOLE = graph(1.0, 2.0, 3.0, 4.0)


def test_a_segment_knows_its_place_also_within_a_segment() -> None:
    tail = WHOLE.segment(1, 4)
    part = tail.segment(1, 2)
    assert (part.offset, part.num_operators, [each.flops for each in part.operators]) == (2, 4, [3.0])
    assert (WHOLE.num_operators, WHOLE.offset) == (4, 0)


def test_only_a_segment_with_the_last_operator_ends_the_network() -> None:
    assert WHOLE.ends
    assert WHOLE.segment(1, 4).ends
    assert WHOLE.segment(1, 4).segment(2, 3).ends
    assert not WHOLE.segment(0, 3).ends
    assert not WHOLE.segment(1, 4).segment(0, 2).ends


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (3, 2), (0, 5)])
def test_a_segment_that_is_empty_or_outside_is_an_error(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="no operators"):
        WHOLE.segment(start, stop)
