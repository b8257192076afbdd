"""Labels know along which axes they change, and broadcasting adds axes along which they do not."""

from __future__ import annotations

import numpy as np

from amble.levers.widths.channels.ties import Labels


def test_labels_that_change_along_one_axis_are_kept_along_it_alone() -> None:
    full = np.broadcast_to(np.array([5, 6, 7]).reshape(1, 3, 1), (2, 3, 4))
    found = Labels.of(full)
    assert (found.ids.shape, found.axes, found.shape) == ((1, 3, 1), (1,), (2, 3, 4))
    np.testing.assert_array_equal(found.full, full)
    np.testing.assert_array_equal(found.along(1), [5, 6, 7])


def test_nothing_of_what_stays_can_be_removed() -> None:
    assert Labels.none((2, 3)).is_free
    assert not Labels.on(0, np.array([1, 2]), (2, 3)).is_free


def test_leading_axes_come_with_broadcasting() -> None:
    wider = Labels.on(0, np.array([1, 2, 3]), (3,)).aligned(3)
    assert (wider.shape, wider.axes) == ((1, 1, 3), (2,))
    np.testing.assert_array_equal(wider.along(2), [1, 2, 3])
