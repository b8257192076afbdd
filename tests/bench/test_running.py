"""Every bench can be run by its name, writes under its device's, and says in a sentence what it shows."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import bench.__main__ as running
from bench.kit import ages, document, places

NAMES = running.benches()
FOLDERS = sorted(path.parent for path in places.BENCH.glob("*/*.py"))


def test_there_is_a_bench_for_every_result_and_each_names_its_device() -> None:
    assert {path.parent.name for path in places.results()} <= set(NAMES)
    assert {path.name.partition("@")[0] for path in places.results()} == {path.parent.name for path in places.results()}
    assert all(import_module(f"bench.{name}").DEVICE for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_bench_has_a_study_and_reaches_it(name: str) -> None:
    assert f"bench/{name}/study.py" in ages.digests(name)


@pytest.mark.parametrize("folder", sorted(set(FOLDERS)), ids=lambda path: path.name)
def test_a_folder_says_what_it_is_in_one_sentence(folder: Path) -> None:
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert told.endswith(".")
    assert "\n" not in told


def test_a_result_lies_beside_its_bench_and_a_quick_one_among_what_is_built() -> None:
    assert running.output("pit", None, quick=False) == places.BENCH / "pit" / "pit@sim.json"
    assert running.output("pit", "nvml", quick=False) == places.BENCH / "pit" / "pit@nvml.json"
    assert running.output("pit", None, quick=True) == places.BUILD / "bench" / "pit@sim.json"


def test_a_bench_that_is_not_there_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        running.main(["nonsense"])
    assert "there is no bench nonsense: choose from answers, calibration, card" in capsys.readouterr().err


def test_a_bench_runs_by_its_name_from_a_fresh_process() -> None:
    words = [sys.executable, "-m", "bench.proof", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=places.ROOT, check=True)
    assert done.stdout.startswith("usage: python -m bench.proof")


def test_a_result_that_measured_less_does_not_take_the_place_of_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def result(name: str, values: dict[str, float | None]) -> Path:
        told = [document.target(target, want=">= 1", value=value, unit="1") for target, value in values.items()]
        path = tmp_path / name
        document.finish(document.options("proof", None, ["--json", "--out", str(path)]), [], told)
        return path

    kept = result("proof@cpu.json", {"first": 2.0, "second": 3.0, "never": None})
    less, as_much = (
        result("less.json", {"first": 2.0, "second": None}),
        result("more.json", {"first": 0.1, "second": 1.0}),
    )
    before = kept.read_bytes()
    assert running.lost(kept, less) == ["second"]
    assert not running.kept_by(kept, less, replace=False)
    assert kept.read_bytes() == before
    assert "no value for 1 of its targets, such as 'second'" in capsys.readouterr().out
    assert running.kept_by(kept, as_much, replace=False)
    assert kept.read_bytes() != before
    assert not as_much.exists()


def test_what_a_bench_writes_is_of_this_version(tmp_path: Path) -> None:
    path = tmp_path / "proof@cpu.json"
    document.finish(document.options("proof", None, ["--json", "--out", str(path)]), [], [])
    assert ages.age(path).words == ages.NEW
