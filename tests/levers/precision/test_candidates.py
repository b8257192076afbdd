"""Candidates that are made from one network."""

from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.levers.precision.candidates import Workshop
from tests.runtimes import models


def workshop(folder: Path, *, saturates: bool) -> Workshop:
    feeds = [{"x": np.zeros((1, 16, 8, 8), np.float32)}]
    return Workshop(models.saved(folder, models.cnn()), folder, feeds, saturates)


def test_what_has_no_kernel_is_one_line_that_names_the_operator(tmp_path: Path) -> None:
    (bf16,) = [each for each in workshop(tmp_path, saturates=False).candidates() if each.name == "bf16"]
    try:
        bf16.make(tmp_path / "bf16.onnx")
    except Refused as error:  # kernels for BF16 come with some CPUs and versions
        assert str(error) == "ONNX Runtime takes no bf16 in Conv on this CPU at the network's opset"  # noqa: PT017


@pytest.mark.parametrize(("saturates", "num"), [(False, 4), (True, 8)])
def test_more_is_tried_where_sums_are_cut(tmp_path: Path, saturates: bool, num: int) -> None:
    made = workshop(tmp_path, saturates=saturates).candidates()
    assert sum(each.precision == "int8" for each in made) == num
