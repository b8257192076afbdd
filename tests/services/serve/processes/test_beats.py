"""Signs of life: who is silent for longer than it said, or says that it hangs, is found out, and nobody else is."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from amble.services.serve.processes.beats import SILENT_S, STARTING_S, Beat, Beats, Heart, new_beats, verdict

WELL = Beat(100.0, 5.0, 1, hangs=False)


@pytest.mark.parametrize(
    ("beat", "since_s", "kept_s", "now_s", "found"),
    [
        (WELL, 0.0, 0.0, 104.9, None),
        (WELL, 0.0, 0.0, 105.1, "no sign for 5.1 s"),
        (WELL, 0.0, 3.0, 107.9, None),
        (WELL, 0.0, 3.0, 108.1, "no sign"),
        (WELL, 105.0, 0.0, 109.9, None),
        (WELL, 105.0, 0.0, 110.1, "no sign"),
        (WELL._replace(patience_s=60.0), 0.0, 0.0, 159.0, None),
        (WELL._replace(patience_s=60.0), 0.0, 0.0, 161.0, "no sign"),
        (WELL._replace(hangs=True), 0.0, 0.0, 100.1, "far longer"),
        (None, 90.0, 0.0, 90.0 + STARTING_S - 1, None),
        (None, 90.0, 0.0, 90.0 + STARTING_S + 1, "no sign"),
    ],
)
def test_a_child_is_well_until_it_was_silent_for_longer_than_it_said(
    beat: Beat | None, since_s: float, kept_s: float, now_s: float, found: str | None
) -> None:
    told = verdict(beat, since_s, kept_s, now_s)
    assert (told is None) == (found is None)
    assert found is None or found in str(told)


def test_the_heart_of_an_engine_tells_that_it_hangs_and_how_long_it_may_be_silent() -> None:
    fd, said, patience = new_beats(2), [None, None], [3.0]
    hangs: list[str | None] = list(said)
    Heart(fd, 2, 1).beat(lambda: hangs[-1], lambda: patience[-1])
    beats = Beats(fd, 2)
    until(lambda: beats.of(1) is not None)
    assert beats.of(0) is None
    patience.append(60.0)
    until(lambda: (beats.of(1) or WELL).patience_s == 60.0)
    assert not (beats.of(1) or WELL).hangs
    hangs.append("a batch")
    until(lambda: (beats.of(1) or WELL).hangs)
    os.close(fd)


def test_the_heart_of_a_front_stands_still_with_its_loop() -> None:
    fd = new_beats(1)
    beats = Beats(fd, 1)

    async def main() -> None:
        beating = asyncio.create_task(Heart(fd, 1, 0).beat_in_loop())
        await asyncio.sleep(0)
        first = beats.of(0)
        assert first is not None
        assert first.patience_s == SILENT_S
        time.sleep(0.6)
        assert beats.of(0) == first
        await asyncio.sleep(0.01)
        assert beats.of(0) != first
        beating.cancel()

    asyncio.run(main())
    beats.clear(0)
    assert beats.of(0) is None
    os.close(fd)


def until(true: object) -> None:
    assert callable(true)
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.01)
