"""The verb: from a file and examples to variants that were measured, and a device that serves all of them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner, Result

import amble
from amble.cli import main
from amble.core import files
from amble.core.errors import Refused
from amble.core.point import OperatingPoint
from amble.core.variants import Variants
from amble.levers.precision.quantizing import FILE, graphs, quantize
from amble.levers.precision.sensitivity import SENSITIVITY
from amble.runtimes import processors
from amble.runtimes.onnx import OnnxRunner
from tests.runtimes import models


def network() -> onnx.ModelProto:
    """Wide enough for INT8 to be worth it: [batch, 16, 24, 24] → 64 channels, twice → 10 classes."""
    nodes = [
        models.node("Conv", ["x", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("Relu", ["c1"], ["r1"]),
        models.node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("GlobalAveragePool", ["c2"], ["mean"]),
        models.node("Flatten", ["mean"], ["flat"]),
        models.node("Gemm", ["flat", "w3"], ["y"], transB=1),
    ]
    weights = [models.weight("w1", 64, 16, 3, 3), models.weight("w2", 64, 64, 3, 3), models.weight("w3", 10, 64)]
    inputs, outputs = [models.value("x", ["batch", 16, 24, 24])], [models.value("y", ["batch", 10])]
    return models.model(nodes, inputs, outputs, weights)


def data(folder: Path, num: int = 60, *, labels: bool = True) -> Path:
    """Examples, labelled by the network itself, so that it is always right."""
    x = np.random.default_rng(0).standard_normal((num, 16, 24, 24)).astype(np.float32)
    session = onnxruntime.InferenceSession(network().SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"x": x})[0].argmax(axis=1)
    np.savez(folder / "data.npz", x=x, **({"labels": answers} if labels else {}))
    return folder / "data.npz"


def quantized(folder: Path, *, labels: bool = True, **wishes: Any) -> Variants:
    source = models.saved(folder, network(), "net.onnx")
    return quantize(source, data=data(folder, labels=labels), device="host", output=folder / "out", rounds=7, **wishes)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The command line, where everything may be lost, so that only speed counts."""
    folder = tmp_path_factory.mktemp("lenient")
    source = models.saved(folder, network(), "net.onnx")
    asked = ["quantize", str(source), "--data", str(data(folder)), "--device", "host", "-o", str(folder / "out")]
    wishes = ["--max-loss", "100pt", "--rounds", "7", "--mixed", "--json"]
    return CliRunner().invoke(main, [*asked, *wishes]), folder / "out"


@pytest.fixture(scope="module")
def lenient(command: tuple[Result, Path]) -> tuple[Variants, Path]:
    """What the command wrote."""
    found = amble.read(command[1] / FILE)
    assert isinstance(found, Variants)
    return found, command[1]


def test_every_variant_was_tried_and_has_a_verdict_with_a_reason(lenient: tuple[Variants, Path]) -> None:
    found, _ = lenient
    names = [each.name for each in found.variants]
    kinds = ["int8-u8s8", "int8-s8s8", "int8-u8s8-clipped", "int8-dynamic"]
    if processors.here().saturates:
        kinds += ["int8-u8s7", "int8-u8u8", "int8-u8s7-clipped", "int8-dynamic-s7"]
    expected = ["fp32", *kinds, "fp16", "bf16"]
    assert names[: len(expected)] == expected
    assert found.variants[0].verdict == "reference"
    assert all(each.reason for each in found.variants)
    assert all(each.verdict in ("kept", "refused") for each in found.variants[1:])
    assert (found.num_calibration, found.num_judged, found.metric) == (15, 45, "accuracy")


def test_whoever_ran_has_its_numbers(lenient: tuple[Variants, Path]) -> None:
    for each in lenient[0].variants[1:]:
        if "does not run here" not in each.reason:
            assert each.speedup is not None
            assert each.quality is not None
            assert each.quality.out_of == 45
            assert each.loss is not None
    assert lenient[0].reference.quality is not None
    assert lenient[0].reference.quality.count == 45


def test_only_files_of_what_was_kept_are_left(lenient: tuple[Variants, Path]) -> None:
    found, folder = lenient
    named = {each.file for each in found.variants[1:] if each.verdict == "kept"}
    assert {path.name for path in folder.glob("*.onnx")} == named - {""}


def test_the_chosen_one_is_the_fastest_that_was_kept(lenient: tuple[Variants, Path]) -> None:
    found, _ = lenient
    kept = [each for each in found.kept if each.speedup is not None]
    assert found.chosen == max(kept, key=lambda each: each.speedup.value, default=found.reference).name  # type: ignore[union-attr]


def test_the_result_is_shown(lenient: tuple[Variants, Path]) -> None:
    found, _ = lenient
    facts, beside = amble.show(found)
    assert ("chosen", found.chosen) in facts.rows
    assert [row[0] for row in beside.rows] == [each.name for each in found.variants]


def test_the_result_is_shown_as_a_page(lenient: tuple[Variants, Path], tmp_path: Path) -> None:
    amble.export_files(lenient[0], html=tmp_path / "page.html")
    assert "variants are worth having on host" in (tmp_path / "page.html").read_text()


def test_layers_are_asked_one_at_a_time_where_int8_is_faster(lenient: tuple[Variants, Path]) -> None:
    found, folder = lenient
    if not any(each.speedup and each.speedup.value > 1.3 for each in found.variants if each.precision == "int8"):
        pytest.skip("this machine runs no INT8 faster")
    kept = files.load(folder / "sensitivity.json", SENSITIVITY)
    assert sorted(kept.known) == ["0", "1", "2"]
    assert all(error > 0 for error in kept.known.values())


def test_a_device_serves_every_precision_that_was_kept(lenient: tuple[Variants, Path]) -> None:
    found, folder = lenient
    runner, served = OnnxRunner(), graphs(folder / FILE)
    assert set(served) == {each.precision for each in found.kept}
    inputs = {"x": np.zeros((1, 16, 24, 24), np.float32)}
    for precision, graph in served.items():
        assert runner.run(graph, OperatingPoint(precision=precision), inputs)["y"].shape == (1, 10)


def test_no_graph_is_served_at_another_precision_than_its_own(lenient: tuple[Variants, Path]) -> None:
    served = graphs(lenient[1] / FILE)
    with pytest.raises(Refused, match="cannot run at int4"):
        OnnxRunner().run(served["fp32"], OperatingPoint(precision="int4"), {})


def test_few_examples_prove_nothing_and_earlier_files_go(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "int8-dynamic.onnx").write_text("of an earlier call")
    found = quantized(tmp_path, max_loss="0.1pt", labels=False)
    assert found.chosen == "fp32"
    assert found.metric == "agreement"
    assert all("give more" in each.reason or "not faster" in each.reason or "loses" in each.reason or
               "does not run" in each.reason for each in found.variants[1:])  # fmt: skip
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_disk_that_fills_up_leaves_the_variants_of_an_earlier_call_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=700k", "amble-test", str(tmp_path / "out")]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        old = {
            "int8-dynamic.onnx": b"old",
            FILE: b"tells of the old one",
            "full": b"0" * (172 * 4096),
        }  # a page is left
        for name, content in old.items():
            (tmp_path / "out" / name).write_bytes(content)
        with pytest.raises(Refused, match=r"cannot save .*: No space left on device"):
            quantized(tmp_path, max_loss="100pt", alike=0.0)
        assert {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()} == old
    finally:
        subprocess.run(["umount", str(tmp_path / "out")], check=True)


@pytest.mark.parametrize("name", ["fp16.onnx", "int8-s8s8.onnx", "mixed-1.onnx"])
def test_a_variant_never_replaces_the_network_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    source = tmp_path / "out" / name
    source.write_bytes(network().SerializeToString())
    with pytest.raises(Refused, match=f"called {name} would replace the network itself; choose another folder"):
        quantize(source, data=data(tmp_path), device="host", output=source.parent)
    assert source.read_bytes() == network().SerializeToString()


def test_without_data_it_says_which_arrays_to_give(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(), "net.onnx")
    with pytest.raises(Refused, match=r"--data FILE.npz with the arrays x \[examples, 16, 24, 24\]"):
        quantize(source, data=None, device="host", output=tmp_path / "out")


def test_data_of_another_network_is_refused(tmp_path: Path) -> None:
    source = models.saved(tmp_path, models.mlp(), "net.onnx")
    np.savez(tmp_path / "other.npz", image=np.zeros((20, 3), np.float32))
    with pytest.raises(Refused, match="image"):
        quantize(source, data=tmp_path / "other.npz", device="host", output=tmp_path / "out")


@pytest.mark.parametrize("shape", [(24, 24, 16), (1, 24, 24), (9216,)])
def test_data_of_another_shape_is_refused_with_both_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    source = models.saved(tmp_path, network(), "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.zeros((8, *shape), np.float32))
    with pytest.raises(Refused) as refused:
        quantize(source, data=tmp_path / "data.npz", device="host", output=tmp_path / "out")
    assert f"data.npz: examples of x are {list(shape)} each" in str(refused.value)
    assert "takes [16, 24, 24]" in str(refused.value)


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(), "net.onnx")
    with pytest.raises(Refused, match="at least 4"):
        quantize(source, data=data(tmp_path, 3), device="host", output=tmp_path / "out")


def test_labels_of_another_network_are_refused_and_no_folder_is_left(tmp_path: Path) -> None:
    source, given = models.saved(tmp_path, network(), "net.onnx"), dict(np.load(data(tmp_path)))
    np.savez(tmp_path / "other.npz", x=given["x"], labels=given["labels"] + 90)
    with pytest.raises(Refused, match="the network's classes from 0 to 9"):
        quantize(source, data=tmp_path / "other.npz", device="host", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(), "net.onnx")
    with pytest.raises(Refused, match=r"net\.onnx/out cannot be written: .*net\.onnx is not a folder; choose another"):
        quantize(source, data=data(tmp_path), device="host", output=source / "out")


@pytest.mark.parametrize("loss", ["1", "much", "-1pt"])
def test_a_loss_without_a_unit_is_refused(tmp_path: Path, loss: str) -> None:
    with pytest.raises(ValueError, match="write 1pt"):
        quantized(tmp_path, max_loss=loss)


def test_the_command_prints_one_document_and_keeps_its_files(command: tuple[Result, Path]) -> None:
    done, folder = command
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["subject"]["network"] == "net"
    shown = CliRunner().invoke(main, ["show", str(folder / FILE)])
    assert "int8-u8s8" in shown.stdout


def test_the_command_without_data_ends_with_what_to_give(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(), "net.onnx")
    done = CliRunner().invoke(main, ["quantize", str(source), "--device", "host", "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "--data FILE.npz" in done.stderr


def test_a_file_sorted_by_label_gives_the_verdicts_of_one_that_is_mixed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale = np.geomspace(0.2, 5.0, 40)[:, None, None, None]  # sorted, the first examples tell little of the last
    x = (scale * rng.standard_normal((40, 16, 24, 24))).astype(np.float32)
    labels = np.arange(40) // 4
    source, found = models.saved(tmp_path, network(), "net.onnx"), []
    for name, order in (("sorted", np.arange(40)), ("mixed", rng.permutation(40))):
        np.savez(tmp_path / f"{name}.npz", x=x[order], labels=labels[order])
        given = {"data": tmp_path / f"{name}.npz", "device": "host", "output": tmp_path / name, "rounds": 3}
        made = quantize(source, max_loss="100pt", **given)  # type: ignore[arg-type]
        found.append({each.name: each.quality for each in made.variants})
    assert found[0] == found[1]
