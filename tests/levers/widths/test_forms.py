"""Networks as they run: in FP32 as they are, in INT8 quantised anew whenever they were cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from amble.core.errors import Refused
from amble.core.processor import Processor
from amble.levers.precision.integer import saturations
from amble.levers.widths.forms import Form
from amble.levers.widths.staircases import Given, Work, opened, probe_of, table_so_far
from amble.runtimes.onnx.layers import OnnxLayers, Precision
from amble.stages.measure.accuracy import Examples
from tests.levers.widths.test_pruning import Bench, FakeNarrower, network
from tests.runtimes import models

RNG = np.random.default_rng(0)
EXAMPLES = Examples({"x": RNG.standard_normal((6, 3, 32, 32)).astype(np.float32)})


def work(folder: Path, precision: Precision, device: str = "host") -> Work:
    model, data = models.saved(folder, network(16, 16), "net.onnx"), Bench(folder).data()
    return opened(
        Given(model, data, device, folder / "out", precision=precision),
        scratch=folder,
        narrow=lambda path, inputs, labels, worth: FakeNarrower(),
    )


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_in_fp32_the_file_itself_runs(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(16, 16), "net.onnx")
    assert Form("fp32", tmp_path, EXAMPLES, 1).of(source) == source


def test_in_int8_every_product_is_quantised(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(16, 16), "net.onnx")
    made = Form("int8", tmp_path, EXAMPLES, 1).of(source)
    assert made != source
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds(made)
    assert "QuantizeLinear" not in kinds(source)


@pytest.mark.parametrize("saturates", [True, False])
def test_weights_have_seven_bits_where_sums_are_cut(tmp_path: Path, saturates: bool) -> None:
    source = models.saved(tmp_path, models.cnn(1))
    examples = Examples({"x": np.random.default_rng(0).standard_normal((4, 16, 8, 8)).astype(np.float32)})
    made = Form("int8", tmp_path, examples, 1, Processor("x86_64", ("avx2",), saturates)).of(source)
    assert saturations(made, [examples.batch(0, 1)]).possible is not saturates


def test_a_network_in_int8_is_timed_judged_and_measured_in_int8(tmp_path: Path) -> None:
    found = work(tmp_path, "int8")
    assert {"QLinearConv"} <= {operator.kind for operator in found.graph.operators}
    assert "QLinearConv" not in {operator.kind for operator in found.source.operators}
    narrower = models.saved(tmp_path, network(8, 16), "narrower.onnx")
    assert "QLinearConv" in {operator.kind for operator in found.load(narrower).operators}
    probe = probe_of(found)
    assert isinstance(probe, OnnxLayers)
    assert probe.precision == "int8"
    assert table_so_far(found).dtype == "int8"


def test_tables_of_one_precision_do_not_serve_the_other(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    whole, small = table_so_far(work(tmp_path, "fp32")), table_so_far(work(tmp_path / "other", "int8"))
    assert not whole.fits(small)


def test_int8_is_refused_where_no_layer_can_be_timed_in_it(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="INT8 are timed on host only; leave --precision out"):
        work(tmp_path, "int8", "sim:jetson-tx2")
