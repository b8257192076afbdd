"""Bodies are packed where that is sooner there, as measured, and not where it is not."""

import gzip

import numpy as np

from amble.levers.split.packing import Packer, packed
from amble.runtimes.remote.client import Body

ZEROS = Body(bytes(200_000), {"Content-Type": "x"})
NOISE = Body(np.random.default_rng(0).bytes(200_000), {})


def test_a_packed_body_says_so_and_unpacks_to_what_it_was() -> None:
    small = packed(ZEROS)
    assert small.headers == {"Content-Type": "x", "Content-Encoding": "gzip"}
    assert gzip.decompress(small.content) == ZEROS.content


def test_what_shrinks_is_packed_over_a_slow_link_only() -> None:
    slow, found = Packer().sent(ZEROS, 1e5)
    assert slow != ZEROS
    assert found.ratio < 0.05
    assert found.pack_s > 0
    fast, _ = Packer().sent(ZEROS, 1e15)
    assert fast == ZEROS


def test_what_does_not_shrink_is_sent_as_it_is_and_tried_again_now_and_then() -> None:
    packer, ages = Packer(), []
    for _ in range(120):
        sent, packer = packer.sent(NOISE, 1e5)
        assert sent == NOISE
        ages.append(packer.age)
    assert ages.count(0) == 3


def test_small_bodies_are_left_alone() -> None:
    small = Body(bytes(100), {})
    assert Packer().sent(small, 1.0) == (small, Packer())
