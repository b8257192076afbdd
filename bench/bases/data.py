"""The files of Debian's `dataset-fashion-mnist` -> arrays; random shifts and flips for training.

Letters: N images of a set, B images of a batch.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path("/usr/share/datasets/fashion-mnist")
NUM_HELD_OUT = 5_000  # the last training images: never trained on, so that choices can be made on them
SHIFT = 2  # pixels, each way

Images = NDArray[np.uint8]


def read_idx(path: Path) -> Images:
    """One gzipped IDX file of bytes (big-endian: 0, 0, type 8, dimensions, sizes, data)."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">i4", dimensions, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def original(split: str) -> tuple[Images, Images]:
    """Images [N, 28, 28] and labels [N] of "train" (60,000) or "t10k" (10,000)."""
    images = FOLDER / f"{split}-images-idx3-ubyte.gz"
    if not images.exists():
        raise SystemExit(f"{images} is missing: apt-get install dataset-fashion-mnist")
    return read_idx(images), read_idx(FOLDER / f"{split}-labels-idx1-ubyte.gz")


def digest(*arrays: Images) -> str:
    """SHA-256 over the bytes of the arrays, one after the other."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def to_input(images: Tensor) -> Tensor:
    """uint8 [B, 28, 28] -> float [B, 1, 28, 28] in [0, 1]."""
    return images.unsqueeze(1).float().div(255.0).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images and shift each by up to SHIFT pixels; uint8 [B, 28, 28] -> the same."""
    count, height, width = images.shape
    padded = torch.nn.functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT))
    offset = torch.randint(0, 2 * SHIFT + 1, (count, 2), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    rows = offset[:, :1] + torch.arange(height)
    columns = offset[:, 1:] + torch.where(flip, torch.arange(width).flip(0), torch.arange(width))
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
