"""A recorder's file is a whole log at any time, holds every request once, and never grows beyond its bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from amble.core import files
from amble.core.log import FORMAT, Slice
from amble.services.serve.models.configuration import Config
from amble.services.serve.models.model import Found, Model
from amble.services.serve.telling.recording import Recorder, beside
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Batch
from tests.services.serve.house import HIGH, KINDS, Doubler, loaded

MODEL = Model(Found("plain", "1", Path("x"), Config("plain")), loaded(KINDS["plain"]))
RUNG = MODEL.loaded.ladder.rungs[0]


def batch(at_s: float, *, rows: int = 1, energy_j: float | None = 2.0, idle_j: float | None = 0.5) -> Batch:
    requests = [Request(at_s - 0.001 * row, at_s + 1.0) for row in range(rows)]
    piece = Slice(0, 0, 1, at_s, at_s + 0.01, HIGH, energy_j, rows, "fp32")
    return Batch("plain/1", requests, (), RUNG, rows, at_s, at_s + 0.01, energy_j, idle_j, HIGH, (piece,))


def recorder(path: Path, **options: float) -> Recorder:
    return Recorder(Doubler().device(), beside(path, alone=True), **options)  # type: ignore[arg-type]


def test_every_request_is_in_the_log_in_order_of_arrival_and_its_slice_points_at_it(tmp_path: Path) -> None:
    noted = recorder(tmp_path / "log.json")
    noted.ran(MODEL, batch(2.0, rows=2))
    noted.ran(MODEL, batch(1.0))
    noted.refused(MODEL, Request(1.5, 1.6), "deadline")
    noted.close()
    log = files.load(tmp_path / "log.json", FORMAT)
    assert [each.arrival_s for each in log.served] == [1.0, 1.5, 1.999, 2.0]
    assert [each.refused for each in log.served] == ["", "deadline", "", ""]
    assert log.served[1].late
    assert [log.served[piece.request].start_s for piece in log.slices] == [2.0, 1.0]
    assert log.energy_j == pytest.approx(2.0 + 2.0 + 0.5), "the idling before the first batch is not in the window"
    assert [each.energy_j for each in log.served] == [2.0, None, 1.0, 1.0]


def test_a_request_without_a_deadline_has_none_in_the_log(tmp_path: Path) -> None:
    noted = recorder(tmp_path / "log.json")
    noted.refused(MODEL, Request(1.0), "full")
    noted.close()
    (served,) = files.load(tmp_path / "log.json", FORMAT).served
    assert (served.deadline_s, served.late) == (None, True)


def test_energy_that_is_unknown_once_is_unknown_for_the_whole_window(tmp_path: Path) -> None:
    noted = recorder(tmp_path / "log.json")
    for energy_j in (2.0, None, 2.0):
        noted.ran(MODEL, batch(1.0, energy_j=energy_j))
    noted.close()
    assert files.load(tmp_path / "log.json", FORMAT).energy_j is None


def test_a_full_file_is_put_aside_and_there_are_never_more_than_two(tmp_path: Path) -> None:
    noted = recorder(tmp_path / "log.json", most=10)
    for number in range(35):
        noted.ran(MODEL, batch(float(number)))
    noted.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.1.json", "log.json"]
    before, now = (files.load(tmp_path / name, FORMAT) for name in ("log.1.json", "log.json"))
    assert [each.start_s for each in before.served] == [float(number) for number in range(20, 30)]
    assert [each.start_s for each in now.served] == [float(number) for number in range(30, 35)]


def test_the_file_is_there_before_the_end(tmp_path: Path) -> None:
    noted = recorder(tmp_path / "log.json", every_s=0.0)
    noted.ran(MODEL, batch(1.0))
    assert noted._last is not None
    noted._last.result(20)
    assert len(files.load(tmp_path / "log.json", FORMAT).served) == 1
    noted.close()


def test_a_disk_that_takes_nothing_is_said_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    noted = recorder(tmp_path / "file" / "log.json")
    noted.ran(MODEL, batch(1.0))
    noted.close()
    assert "was not written" in caplog.text


def test_several_models_have_a_file_each_beside_the_named_one() -> None:
    assert beside(Path("a/log.json"), alone=False)(MODEL) == Path("a/log-plain-1.json")
    assert beside(Path("a/log.json"), alone=True)(MODEL) == Path("a/log.json")
