"""A long bench is done in slices: what is done stays done, and other code begins anew."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bench.kit.cells import Cells, digest, kept, slices


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    made: list[str] = []

    def work(name: str) -> list[dict[str, object]]:
        made.append(name)
        return [{"name": name}]

    pieces = {name: partial(work, name) for name in ("a", "b")}
    cells = Cells(tmp_path, "one")
    assert cells.run(pieces, within_s=60.0) == []
    assert cells.run(pieces, within_s=60.0) == []
    assert made == ["a", "b"]
    assert cells.records("a") == [{"name": "a"}]
    assert Cells(tmp_path, "two").records("a") is None


def test_when_the_time_is_up_the_rest_is_left(tmp_path: Path) -> None:
    cells = Cells(tmp_path, "one")
    assert cells.run({"a": list, "b": list}, within_s=0.0) == ["a", "b"]
    assert cells.records("a") is None


def test_a_piece_that_fails_is_not_kept(tmp_path: Path) -> None:
    cells = Cells(tmp_path, "one")
    with pytest.raises(ZeroDivisionError):
        cells.run({"a": lambda: [{"x": 1 / 0}]}, within_s=60.0)
    assert cells.records("a") is None


def test_a_digest_tells_code_and_arguments_apart(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.py" for name in ("one", "same", "other")]
    for path, text in zip(paths, ("X = 1\n", "X = 1  # as before\n", "X = 2\n"), strict=True):
        path.write_text(text)
    first = digest(paths[:1], (1, 2))
    assert first == digest(paths[1:2], (1, 2))
    assert first != digest(paths[:1], (1, 3))
    assert first != digest(paths[2:], (1, 2))


def test_what_is_kept_is_made_once_and_anew_where_it_is_wanted_fresh(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> list[int]:
        made.append(len(made))
        return list(made)

    path = tmp_path / "deep" / "slice.json"
    assert kept(path, make) == kept(path, make) == [0]
    assert kept(path, make, fresh=True) == [0, 1]
    with pytest.raises(ZeroDivisionError):
        kept(path, lambda: [1 // 0], fresh=True)
    assert kept(path, make) == [0, 1]


def test_slices_are_asked_for_beside_what_every_bench_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--slice", "cpu/max", "--json", "--fresh"])
    own, rest = slices("CLOCK/GOVERNOR")
    assert (own.slice, own.fresh, own.kept, rest) == ("cpu/max", True, False, ["--json"])
