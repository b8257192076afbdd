"""The script for GPUs, on torch's CPU: every step runs, and stops in time."""

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench.hardware import gpu as hardware_gpu


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_step_of_the_script_runs_and_tells_what_was_left_out(tmp_path: Path) -> None:
    found = records(hardware_gpu.main(["--tiny", "--out", str(tmp_path)]))

    kinds = {record["what"] for record in found}
    assert kinds == {"head", "idle", "whole", "operator", "skipped", "width", "done"}
    assert {record["network"] for record in found if record["what"] == "whole"} == {"resnet18", "encoder layer"}
    assert all(record["latency_s"] > 0 for record in found if "latency_s" in record)
    assert all(record["counter_j"] is None for record in found if record["what"] == "whole")
    assert sum(record["what"] == "operator" for record in found) > 40


def test_what_does_not_fit_into_the_limit_is_left_out_and_said(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    found = records(hardware_gpu.main(["--tiny", "--limit", "0.1", "--out", str(tmp_path)]))
    assert time.monotonic() - begin_s < 20.0
    assert [record["step"] for record in found if record["what"] == "skipped"][:2] == [
        "resnet18 fp32",
        "encoder layer fp32",
    ]
    assert not [record for record in found if record["what"] == "operator"]
