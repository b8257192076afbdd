"""Files may be named by texts as well as by paths, as users of Python write them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import amble
from amble.stages.fit.costs import Costs
from amble.stages.fit.tables import FittedTable

ROWS = [f"net,{clock}e6,{2 / clock + 0.001},{clock / 50}" for clock in (500, 800, 1200)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "measured.csv").write_text("\n".join(["workload,core_hz,latency_s,power_w", *ROWS]))
    (tmp_path / "asked.csv").write_text("workload,core_hz\nnet,1e9\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_is_fitted_saved_read_and_predicted_by_texts(folder: Path) -> None:
    fitted = amble.fit("measured.csv", model="sum")
    assert isinstance(fitted, FittedTable)
    amble.save(fitted, "fitted.json")
    assert amble.read("fitted.json") == fitted
    by_text = amble.predict("fitted.json", at="asked.csv", output="out.csv")
    by_path = amble.predict(folder / "fitted.json", at=folder / "asked.csv")
    np.testing.assert_array_equal(by_text.latency_s, by_path.latency_s)
    assert sorted(os.listdir(folder)) == ["asked.csv", "fitted.json", "measured.csv", "out.csv"]


def test_a_profile_a_plan_and_its_exports_are_named_by_texts(folder: Path) -> None:
    graph = amble.load("synthetic:3")
    profile = amble.measure(graph, amble.open("sim:h200"), points=3, repeats=3, keep="part.json")
    amble.save(profile, "profile.json")
    costs = amble.fit("profile.json", model="p-norm")
    assert isinstance(costs, Costs)
    schedule = amble.plan(graph, costs, deadline="1s")
    amble.save(schedule, "plan.json")
    amble.export_files(schedule, csv="plan.csv")
    assert (folder / "plan.csv").read_text().startswith("stage,")
    (folder / "plan.sh").mkdir()
    (folder / "both.json").write_text("older")
    with pytest.raises(amble.Refused, match=r"cannot save .*plan\.sh: Is a directory"):
        amble.export_files(schedule, output="both.json", csv="plan.sh")
    assert (folder / "both.json").read_text() == "older"
    amble.export_files(schedule, output="both.json", csv="both.csv")
    assert amble.read("both.json") == schedule
    assert amble.check("plan.json", "sim:h200", arrivals="periodic:1s:5").report.checked.policy == "amble"
