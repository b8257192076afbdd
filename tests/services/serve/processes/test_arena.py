"""Blocks of shared memory never overlap, and all of it is free again at the end."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from amble.services.serve.processes.arena import Arena, mapped

ACTIONS = st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), max_size=60)


@given(ACTIONS)
def test_blocks_never_overlap_and_come_back(actions: list[tuple[bool, int]]) -> None:
    arena = Arena(1 << 18)
    held: dict[int, int] = {}
    for take, size in actions:
        if take:
            offset = arena.take(size)
            if offset is not None:
                for other, others in held.items():
                    assert offset + size <= other or other + others <= offset
                held[offset] = size
        elif held:
            offset = sorted(held)[size % len(held)]
            del held[offset]
            arena.give_back(offset)
    for offset in held:
        arena.give_back(offset)
    assert arena.taken_bytes == 0
    assert arena.take(1 << 18) == 0, "all of it is one block again"
    arena.close()


def test_what_one_writes_another_reads_without_a_copy() -> None:
    arena = Arena(1 << 16)
    far = mapped(os.dup(arena.fd))
    offset = arena.take(5000)
    assert offset is not None
    arena.memory[offset : offset + 4] = b"here"
    assert bytes(far[offset : offset + 4]) == b"here"


def test_a_full_arena_says_so() -> None:
    arena = Arena(8192)
    assert arena.take(4097) == 0
    assert arena.take(1) is None
