"""The guide to pruning works as written. The only changes: a small network, few repeats, and a simulated chip."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.runtimes import models

PAGE = (Path(__file__).parents[1] / "docs" / "pruning.md").read_text()
GUIDE = re.sub(r"<!--.*?-->", "", PAGE)  # the names of numbers are no part of what it says
AMBLE = Path(sys.executable).parent / "amble"
QUICK = ["--epochs", "1", "--repeats", "3", "--importance", "l1", "--max-loss", "100pt"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nodes = [
        models.node("Conv", ["image", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("Relu", ["c1"], ["r1"]),
        models.node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("GlobalAveragePool", ["c2"], ["mean"]),
        models.node("Flatten", ["mean"], ["flat"]),
        models.node("Gemm", ["flat", "w3"], ["y"], transB=1),
    ]
    weights = [models.weight("w1", 64, 3, 3, 3), models.weight("w2", 64, 64, 3, 3), models.weight("w3", 10, 64)]
    inputs, outputs = [models.value("image", ["batch", 3, 32, 32])], [models.value("y", ["batch", 10])]
    models.saved(tmp_path, models.model(nodes, inputs, outputs, weights), "model.onnx")
    return tmp_path


def test_every_step_of_the_guide_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((40, 3, 32, 32)).astype(np.float32)
    exec(code, {"images": images, "classes": rng.integers(0, 10, 40)})  # noqa: S102  our own document
    commands = re.findall(r"^amble .*$", GUIDE, re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        _, *words = shlex.split(line.replace("--device host", "--device sim:jetson-tx2").replace(" --max-loss 1pt", ""))
        found = subprocess.run([AMBLE, *words, *(QUICK if words[0] == "prune" else [])], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    assert (folder / "narrow" / "pruned.onnx").exists()
    assert 'class="plot"' in (folder / "narrow.html").read_text()


def test_the_options_that_the_guide_names_exist() -> None:
    options = subprocess.run([AMBLE, "prune", "--help"], capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"--[a-z][a-z-]+", GUIDE))
    assert named
    assert {each for each in named if each not in options} == set()
