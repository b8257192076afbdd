"""Who wants to run and is not let is told from who waits, who is stopped, and who runs all the time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amble.services.serve.starving import Starving

TICKS = os.sysconf("SC_CLK_TCK")


def note(root: Path, state: str, used_s: float) -> None:
    place = root / "7" / "task" / "8"
    place.mkdir(parents=True, exist_ok=True)
    (place / "stat").write_text(f"8 (a (name) {state} " + "0 " * 10 + f"{round(used_s * TICKS)} 0 0 0")


@pytest.mark.parametrize(
    ("states", "share", "kept_s"), [("RRRR", 0.1, 2.7), ("RRRR", 0.9, 0.0), ("SSSS", 0.0, 0.0), ("TTTT", 0.0, 0.0)]
)
def test_only_who_can_run_and_hardly_does_is_kept_from_it(
    tmp_path: Path, states: str, share: float, kept_s: float
) -> None:
    starving, found_s = Starving(tmp_path), -1.0
    for at, state in enumerate(states):
        note(tmp_path, state, share * at)
        found_s = starving.since("mark", (7, 8), float(at))
    assert found_s == pytest.approx(kept_s, abs=0.05)


def test_it_counts_anew_with_every_mark_and_nothing_of_who_is_not_there(tmp_path: Path) -> None:
    starving = Starving(tmp_path)
    assert starving.since(1, (7, 8), 0.0) == 0.0
    for at in range(3):
        note(tmp_path, "R", 0.0)
        starving.since(1, (7, 8), float(at))
    assert starving.since(1, (7, 8), 3.0) == pytest.approx(3.0)
    assert starving.since(2, (7, 8), 4.0) == 0.0


def test_this_very_thread_runs() -> None:
    starving, pid = Starving(), os.getpid()
    assert starving.since(0, (pid, pid), 0.0) == 0.0
    assert starving.since(0, (pid, pid), 1e-9) == pytest.approx(0.0, abs=1e-6)
