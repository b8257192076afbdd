"""What is written as ONNX answers as torch did, at any batch size."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from amble.core.errors import Refused
from amble.runtimes.torch.exporting import to_onnx
from amble.runtimes.torch.importing import to_torch
from tests.levers.memory.learning.networks import Gated, seeded

EXAMPLE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def cut() -> nn.Module:
    """A gated network of odd widths, as cutting leaves them."""
    return seeded(partial(Gated, width=5, squeezed=2))


@pytest.fixture(scope="module")
def file(cut: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "folder" / "cut.onnx"
    to_onnx(cut, path, EXAMPLE)
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_answers_as_the_network_at_any_batch(cut: nn.Module, file: Path, batch: int) -> None:
    inputs = torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(batch))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": inputs.numpy()})
    np.testing.assert_allclose(found, cut(inputs).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_normalisation_is_folded_and_nodes_have_names(file: Path) -> None:
    graph = onnx.load(file).graph
    assert {each.op_type for each in graph.node}.isdisjoint({"BatchNormalization"})
    assert [each.name for each in graph.node if each.op_type == "Conv"] == [f"conv_{at}" for at in range(1, 6)]


def test_what_was_written_can_be_read_again(cut: nn.Module, file: Path) -> None:
    again = to_torch(file)
    torch.testing.assert_close(again(EXAMPLE), cut(EXAMPLE))
    layers = dict(again.named_modules())
    assert [layers[f"conv_{at}"].out_channels for at in range(1, 6)] == [5, 5, 2, 5, 4]


def test_a_network_that_torch_cannot_write_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(Refused, match="cannot write the network as ONNX"):
        to_onnx(Odd(), tmp_path / "odd.onnx", EXAMPLE)
    assert not (tmp_path / "odd.onnx").exists()
