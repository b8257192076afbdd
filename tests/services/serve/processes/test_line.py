"""Messages between a front and an engine: whole, in order, with their tensors, whoever does not read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from amble.services.serve.processes.arena import mapped
from amble.services.serve.processes.line import Line, packed, placed, room, unpacked


@pytest.fixture
def lines() -> Iterator[tuple[Line, Line]]:
    first, second = map(Line, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    yield first, second
    first.close()
    second.close()


def test_tensors_come_as_they_went_texts_too(lines: tuple[Line, Line]) -> None:
    near, far = lines
    sent = {
        "a": np.arange(6, dtype=np.int64).reshape(2, 3),
        "b": np.array([b"text", b""], dtype=object),
        "c": np.float32(3.0) * np.ones((), np.float32),
        "d": np.zeros((0, 4), np.float16),
    }
    parts = packed(sent)
    assert near.send(("offer", 1), parts)
    message = far.receive()
    assert message is not None
    found = unpacked([len(part) for part in parts], message.payload)
    assert message.head == ("offer", 1)
    for name, value in sent.items():
        assert found[name].dtype == value.dtype
        assert found[name].tolist() == value.tolist()


def test_as_many_tensors_as_a_model_may_have_go_in_one_message(lines: tuple[Line, Line]) -> None:
    near, far = lines
    sent = {f"x{index}": np.array([index], np.float32) for index in range(1024)}
    parts = packed(sent)
    assert near.send(("offer", 1), parts)
    assert not near.closed
    message = far.receive()
    assert message is not None
    assert unpacked([len(part) for part in parts], message.payload) == sent


def test_nobody_waits_for_one_that_does_not_read_and_nothing_is_lost(lines: tuple[Line, Line]) -> None:
    near, far = lines
    parts = [bytes(20_000)]
    for number in range(200):
        near.send(("n", number), parts)
    assert near.waits, "the socket takes some, not all"
    seen: list[int] = []
    while near.waits or len(seen) < 200:
        message = far.receive()
        if message is None:
            near.flush()
        else:
            seen.append(message.head[1])
    assert seen == list(range(200))


def test_an_answer_too_large_for_a_message_comes_in_memory_of_its_own(lines: tuple[Line, Line]) -> None:
    near, far = lines
    sent = {"y": np.random.default_rng(0).random((1000, 1000))}
    parts = packed(sent)
    sizes = [len(part) for part in parts]
    fd = os.memfd_create("test")
    os.ftruncate(fd, room(sizes))
    placed(parts, mapped(fd))
    near.send(("answer",), fd=fd)
    message = far.receive()
    assert message is not None
    assert np.array_equal(unpacked(sizes, message.payload)["y"], sent["y"])


def test_the_end_of_the_other_is_seen(lines: tuple[Line, Line]) -> None:
    near, far = lines
    near.send(("last",))
    near.close()
    assert far.receive() is not None
    assert far.receive() is None
    assert far.closed
    assert far.send(("into the void",)), "nothing waits for one that is gone"
