"""A client that comes through several fronts has the room of one client, in bytes and in connections."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.processes.arena import mapped
from amble.services.serve.processes.shares import Shares, new_shares, wipe
from amble.services.serve.requests.quota import Quota, Reservation

FRONTS = 3
Of = Callable[[int, str], Shares]


@pytest.fixture
def fd() -> Iterator[int]:
    made = new_shares(FRONTS)
    yield made
    os.close(made)


@pytest.fixture
def of(fd: int) -> Of:
    return lambda front, kind: Shares(fd, FRONTS, front, kind, b"secret")


def test_one_client_gets_half_of_the_room_through_however_many_fronts(of: Of) -> None:
    rooms = [Quota(1000, elsewhere=of(front, "bytes")) for front in range(FRONTS)]
    held, refused = [], 0
    for turn in range(90):
        each = Reservation(rooms[turn % FRONTS], "a")
        try:
            each.grow(10)
        except Fault:
            refused += 1
        else:
            held.append(each)
    assert sum(each.num_bytes for each in held) == 500
    assert refused == 40
    with Reservation(rooms[0], "b") as other:
        other.grow(250)
        with pytest.raises(Fault), Reservation(rooms[1], "b") as more:
            more.grow(10)
    for each in held:
        each.__exit__()
    assert [room.elsewhere.held("a") for room in rooms] == [(0, 0)] * FRONTS


@pytest.mark.parametrize("kind", ["connections", "calls"])
def test_one_clients_connections_and_calls_are_counted_over_all_fronts(of: Of, kind: str) -> None:
    crowds = [Crowd(100, elsewhere=of(front, kind)) for front in range(FRONTS)]
    let_in = [turn for turn in range(300) if crowds[turn % FRONTS].enter("many")]
    assert len(let_in) == 50
    assert all(crowd.enter("another") for crowd in crowds)
    for turn in let_in:
        crowds[turn % FRONTS].leave("many")
    assert crowds[0].elsewhere.held("many") == (0, 2)
    assert crowds[0].elsewhere.held("another") == (2, 2)


def test_what_a_front_held_that_died_is_free_again_and_kinds_are_apart(fd: int, of: Of) -> None:
    of(1, "bytes").add("a", 7)
    of(1, "connections").add("a", 2)
    of(2, "bytes").add("a", 1)
    assert of(0, "bytes").held("a") == (8, 8)
    assert of(0, "bytes").held("b") == (0, 8)
    assert of(0, "connections").held("a") == (2, 2)
    wipe(mapped(fd), FRONTS, 1)
    assert of(0, "bytes").held("a") == (1, 1)
    assert of(0, "connections").held("a") == (0, 0)
