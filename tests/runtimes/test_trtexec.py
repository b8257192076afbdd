"""Import of TensorRT's layer profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks, OperatingPoint
from amble.runtimes import trtexec

CLOCKS = Clocks(core_hz=1.3e9, memory_hz=1.866e9)
HEAD = {"count": 250}
CONV = {"name": "conv1 + relu1", "timeMs": 30.0, "averageMs": 0.12, "medianMs": 0.118, "percentage": 75.0}
COPY = {"name": "Reformatting CopyNode", "timeMs": 5.0, "averageMs": 0.02, "medianMs": 0.02, "percentage": 12.5}


def saved(folder: Path, content: Any) -> Path:
    path = folder / "layers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_layers_become_samples_at_the_clocks_given(tmp_path: Path) -> None:
    profile = trtexec.load_profile(
        saved(tmp_path, [HEAD, CONV, COPY]), device="nvml:0", clocks=CLOCKS, precision="fp16"
    )
    assert profile.operators == ("conv1 + relu1", "Reformatting CopyNode")
    assert [sample.latency_s for sample in profile.samples] == pytest.approx([0.118e-3, 0.02e-3])
    assert all(sample.ran_at == sample.point.clocks == CLOCKS for sample in profile.samples)
    assert {(sample.repeats, sample.energy_j) for sample in profile.samples} == {(250, None)}
    assert profile.points == (OperatingPoint(CLOCKS, "fp16"),)
    (total,) = profile.totals
    assert (total.operator, total.latency_s) == ("", pytest.approx(0.138e-3))
    assert (profile.where.device, profile.subject.network) == ("nvml:0", "layers")


def test_the_graph_has_the_same_layers_and_digest_and_no_known_work(tmp_path: Path) -> None:
    path = saved(tmp_path, [HEAD, CONV, COPY])
    graph = trtexec.load(path, batch=4)
    profile = trtexec.load_profile(path, device="d", clocks=CLOCKS, batch=4)
    assert tuple(operator.name for operator in graph.operators) == profile.operators
    assert graph.digest == profile.subject.digest != trtexec.load(path, batch=1).digest
    assert {(each.flops, each.bytes_read, each.gemm) for each in graph.operators} == {(0.0, 0.0, None)}


def test_other_times_of_the_same_layers_are_the_same_graph(tmp_path: Path) -> None:
    first = trtexec.load(saved(tmp_path, [HEAD, CONV])).digest
    assert trtexec.load(saved(tmp_path, [HEAD, CONV | {"medianMs": 9.0}])).digest == first


def test_old_files_without_medians_give_means(tmp_path: Path) -> None:
    old = {key: value for key, value in CONV.items() if key != "medianMs"}
    profile = trtexec.load_profile(saved(tmp_path, [HEAD, old]), device="d", clocks=CLOCKS)
    assert profile.samples[0].latency_s == pytest.approx(0.12e-3)


def test_layers_of_one_name_are_numbered(tmp_path: Path) -> None:
    graph = trtexec.load(saved(tmp_path, [HEAD, COPY, CONV, COPY, COPY]))
    names = [operator.name for operator in graph.operators]
    assert names == [COPY["name"], CONV["name"], f"{COPY['name']} #2", f"{COPY['name']} #3"]


@pytest.mark.parametrize(
    "content",
    ["{not json", {"count": 3}, [], [HEAD], [CONV], [HEAD, HEAD, CONV], [HEAD, {"name": "x"}], [HEAD, {"name": 3}]],
)
def test_other_files_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(Refused, match="is not a profile of trtexec --exportProfile"):
        trtexec.load(saved(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        trtexec.load(tmp_path / "none.json")
