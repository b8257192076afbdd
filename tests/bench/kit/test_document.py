"""The harness of the benches: comparisons, percentiles, the document and its table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amble.runtimes.instructions import instructions
from bench.kit import document


def asked(tmp_path: Path, *flags: str) -> document.Options:
    return document.options("search", "about", [*flags, "--out", str(tmp_path / "made" / "search.json")])


@pytest.mark.parametrize(
    ("want", "value", "met"),
    [("<= 0.001", 0.001, True), ("< 0.001", 0.001, False), (">= 50", 49.9, False), ("== 0", 0, True), ("> 2", 3, True)],
)
def test_a_target_is_compared_as_it_reads(want: str, value: float, met: bool) -> None:
    assert document.target("gap", want=want, value=value, unit="1").met is met


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_was_not_measured_is_not_met(value: float | None) -> None:
    found = document.target("gap", want="<= 1", value=value, unit="1")
    assert found.met is None
    assert found.value is None


def test_why_a_target_is_missed_is_told_where_it_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goals = [document.target("gap", want="<= 1", value=value, unit="1", cause="too few") for value in (0.5, 2.0, 3.0)]
    document.finish(asked(tmp_path), [{"operators": 3}], goals)
    assert "2 missed: too few" in capsys.readouterr().out
    written = json.loads((tmp_path / "made" / "search.json").read_text(encoding="utf-8"))
    assert [one.get("cause") for one in written["targets"]] == [None, "too few", "too few"]


@pytest.mark.parametrize("want", ["0.001", "about 3", "<=", "<= few"])
def test_a_want_that_is_no_comparison_is_refused(want: str) -> None:
    with pytest.raises(ValueError, match=r"want must read|could not convert"):
        document.target("gap", want=want, value=1, unit="1")


def test_percentiles_agree_with_numpy() -> None:
    values = np.random.default_rng(1).exponential(size=17)
    for percent in (0, 5, 50, 99, 100):
        assert document.percentile(values, percent) == pytest.approx(np.percentile(values, percent))
    with pytest.raises(ValueError, match="at least one"):
        document.percentile([], 50)


def test_durations_leave_out_the_warmups() -> None:
    calls: list[int] = []
    found = document.durations_s(lambda: calls.append(1), repeats=3, warmups=2)
    assert len(calls) == 5
    assert len(found) == 3
    assert all(duration >= 0 for duration in found)


def test_stdout_and_the_file_hold_the_same_plain_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = asked(tmp_path, "--json", "--quick")
    results = [{"operators": np.int64(3), "gap": np.float64("nan"), "proved": np.True_, "times": np.array([1.5, 2.5])}]
    goals = [document.target("gap", want="<= 1", value=np.float32(0.5), unit="1")]
    document.finish(options, results, goals)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "made" / "search.json").read_text(encoding="utf-8"))
    assert printed["results"] == [{"operators": 3, "gap": None, "proved": True, "times": [1.5, 2.5]}]
    assert printed["targets"] == [{"target": "gap", "unit": "1", "want": "<= 1", "value": 0.5, "met": True}]
    assert printed["quick"] is True
    assert list(printed) == ["name", "amble", "machine", "quick", "results", "targets", "code"]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["search.json"]


def test_the_machine_is_told_with_its_instruction_sets(tmp_path: Path) -> None:
    made = document.document(asked(tmp_path), [], [])
    assert made["machine"] == {
        "cpu": made["machine"]["cpu"],  # type: ignore[index]
        "cores": os.cpu_count(),
        "instructions": list(instructions()),
        "gpu": made["machine"]["gpu"],  # type: ignore[index]
    }


def test_the_document_needs_no_numpy_before_a_bench_is_on_one_core() -> None:
    told = "import sys; from bench.kit import document; document._instructions(); sys.exit('numpy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", told], env=environment, check=False, timeout=60).returncode == 0


def test_without_json_people_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goals = [
        document.target("gap", want="<= 1", value=2, unit="1"),
        document.target("x", want="< 1", value=None, unit="s"),
    ]
    document.finish(asked(tmp_path), [{"operators": 3}, {"operators": 4}, {"other": 1.23456}], goals)
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "not measured" in printed
    assert "1.235" in printed


def test_the_data_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AMBLE_DATA", str(tmp_path))
    assert document.options("search", None, []).data == tmp_path
    monkeypatch.delenv("AMBLE_DATA")
    assert document.options("search", None, []).data.parts[-2:] == ("shared", "data")


def test_targets_are_judged_anew_from_stored_records(tmp_path: Path) -> None:
    document.finish(asked(tmp_path), [{"gap": 0.5}], [document.target("gap", want="<= 1", value=0.5, unit="1")])
    path = tmp_path / "made" / "search.json"
    first = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**first, "machine": {"cpu": "another", "cores": 99}, "amble": "0.0.1"}))
    options = document.options("search", "about", ["--judge", str(path)], judges=True)
    records = document.stored(path)
    document.judged(options, records, [document.target("gap", want="<= 0.1", value=records[0]["gap"], unit="1")])
    again = json.loads(path.read_text(encoding="utf-8"))
    assert [each["met"] for each in again["targets"]] == [False]
    assert (again["machine"]["cpu"], again["amble"]) == ("another", "0.0.1")
    assert again["results"] == first["results"]
    assert again["code"] == first["code"]


def test_a_bench_that_cannot_judge_refuses_to_instead_of_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        document.options("search", "about", ["--judge", "search.json"])
    assert "--judge" in capsys.readouterr().err


def test_a_document_says_what_code_it_is_of(tmp_path: Path) -> None:
    document.finish(asked(tmp_path), [], [])
    files = json.loads((tmp_path / "made" / "search.json").read_text(encoding="utf-8"))["code"]["files"]
    assert {"bench/search/study.py", "src/amble/stages/plan/search.py"} <= set(files)
