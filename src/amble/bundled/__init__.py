"""Name of a split -> labelled images of Fashion-MNIST; path of the residual network that was trained on them.

The images are the last 10,000 of the training set and the first 5,000 of the test set of Fashion-MNIST (Xiao, Rasul and
Vollgraf, 2017; MIT licence, `LICENSE-fashion-mnist.txt`). `tools/bundled` of the repository made all files here.

Letters: N images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "fashion_mnist", "model_input", "model_path"]

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

_FOLDER = Path(__file__).parent
_NUM_SEEN = 5_000  # of the bundled training images; the network was not trained on those after them

Bytes = NDArray[np.uint8]


def fashion_mnist(split: Literal["train", "held_out", "test"]) -> tuple[Bytes, Bytes]:
    """Images uint8 [N, 28, 28] and labels uint8 [N], places in `CLASSES`.

    "train" has 10,000 images. "held_out" is its second half, which the bundled network was not trained on: calibrate,
    and choose between variants, on these. "test" has 5,000 images for the final figure alone.

    Raises ValueError for another split.
    """
    if split not in ("train", "held_out", "test"):
        raise ValueError(f"the splits are 'train', 'held_out' and 'test', not {split!r}")
    part = "test" if split == "test" else "train"
    with np.load(_FOLDER / f"fashion-mnist-{part}.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    first = _NUM_SEEN if split == "held_out" else 0
    return images[first:], labels[first:]


def model_path() -> Path:
    """The bundled network, ONNX: `image` float32 [N, 1, 28, 28] in [0, 1] -> `logits` float32 [N, 10]."""
    return _FOLDER / "fashion-resnet.onnx"


def model_input(images: Bytes) -> NDArray[np.float32]:
    """Images uint8 [N, 28, 28] -> what the bundled network takes, float32 [N, 1, 28, 28] in [0, 1]."""
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 [N, height, width], not {images.dtype} {list(images.shape)}")
    return images[:, None].astype(np.float32) / np.float32(255)
