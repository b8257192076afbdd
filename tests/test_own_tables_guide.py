"""The guide to tables of one's own works as written, from its tables to its plans."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[1] / "docs" / "own-tables.md").read_text()
AMBLE = Path(sys.executable).parent / "amble"
FILES = dict(
    zip(("measured.csv", "points.csv", "clocks.csv"), re.findall(r"```csv\n(.*?)```", GUIDE, re.DOTALL), strict=True)
)


def amble(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AMBLE, *shlex.split(line)[1:]], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        assert f"`{name}`" in GUIDE
        (folder / name).write_text(text)
    said = {}
    for line in re.findall(r"^amble .*$", GUIDE, re.MULTILINE):
        found = amble(folder, line)
        assert found.returncode == 0, (line, found.stderr)
        said[line] = found.stdout + found.stderr
    return folder, said


def test_every_command_of_the_guide_runs_and_the_names_are_said(walked):
    _, said = walked
    assert len(said) == 7
    fit = next(text for line, text in said.items() if line.startswith("amble fit"))
    joined = " ".join(fit.split())
    assert "gpu clock [MHz] as core_hz (x 1e+06)" in joined
    assert "columns that are not read: temp" in joined


def test_the_plan_keeps_the_deadline_with_less_energy_than_the_maximum_clocks(walked):
    folder, _ = walked
    plan, finer = (json.loads((folder / name).read_text())["schedule"] for name in ("plan.json", "finer.json"))
    for each in (plan, finer):
        assert each["predicted"]["latency_s"] * each["margin"] <= 0.020
        top = next(one for one in each["baselines"] if one["name"] == "maximum clocks")
        assert each["predicted"]["energy_j"] < top["predicted"]["energy_j"]
    assert plan["steps"][0]["point"]["clocks"]["core_hz"] == 9e8
    assert finer["margin"] > plan["margin"]


def test_what_a_check_cannot_do_and_which_workload_is_meant_are_said(walked):
    folder, _ = walked
    (folder / "fine.csv").write_text("core_mhz\n850\n")
    assert (
        amble(folder, "amble plan costs.json --workload detector --deadline 22ms --at fine.csv -o f.json").returncode
        == 0
    )
    found = amble(folder, "amble check f.json --device recorded:measured.csv")
    assert (found.returncode, "was not recorded" in found.stderr) == (2, True)
    found = amble(folder, "amble plan costs.json --deadline 20ms")
    assert (found.returncode, found.stdout) == (2, "")
    assert "name one with --workload (detector, classifier), or --workload all" in found.stderr
    found = amble(folder, "amble plan costs.json --workload all --deadline 20ms --json")
    assert [step["operator"] for step in json.loads(found.stdout)["steps"]] == ["detector", "classifier"]
    found = amble(folder, "amble plan costs.json --workload detector --deadline 5ms")
    assert found.returncode == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("amble plan measured.csv --deadline 20ms", "measured.csv is a table, not a fit; make one first: amble fit"),
        ("amble plan network.onnx --deadline 20ms", "Missing option '--device'"),
        ("amble plan costs.json --workload classifier --deadline 9ms --at sheet.xlsx", "export the sheet as CSV"),
        ("amble fit sheet.xlsx", "export the sheet as CSV (UTF-8)"),
        ("amble predict costs.json --at sheet.xlsx", "export the sheet as CSV (UTF-8)"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_way_out(walked, line, said):
    folder, _ = walked
    (folder / "sheet.xlsx").write_bytes(b"PK\x03\x04")
    found = amble(folder, line)
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr
