"""Large requests are read beside the loop, and no client's take all the places."""

from __future__ import annotations

import asyncio
import threading

import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.reading import Readers


async def greedy(readers: Readers) -> tuple[int, int, bool]:
    """Let one client ask for more than there is room for, then another → what was read, refused, and the other's."""
    gate = threading.Event()
    tasks = [asyncio.create_task(readers.read("greedy", gate.wait)) for _ in range(100)]
    await asyncio.sleep(0.05)
    other = asyncio.create_task(readers.read("other", lambda: threading.current_thread().name))
    await asyncio.sleep(0.05)
    gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [each for each in done if isinstance(each, Fault)]
    return len(done) - len(refused), len(refused), (await other).startswith("amble-read")


def test_one_client_gets_half_of_the_places_and_others_still_come_in() -> None:
    readers = Readers()
    try:
        read, refused, other = asyncio.run(greedy(readers))
    finally:
        readers.close()
    assert (read, refused) == (32, 68)
    assert other


def test_what_goes_wrong_while_reading_is_told_to_whoever_asked() -> None:
    def wrong() -> None:
        raise Fault(400, "no request")

    readers = Readers()
    try:
        with pytest.raises(Fault, match="no request"):
            asyncio.run(readers.read("one", wrong))
        assert asyncio.run(readers.read("one", lambda: 7)) == 7
    finally:
        readers.close()
