"""The files of Debian's `dataset-fashion-mnist` -> the subset bundled with amble: `python -m tools.bundled.bundle`.

The last 10,000 training images (of which the network has never seen the last 5,000) and the first 5,000 test images.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from bench.bases.data import Images, original
from bench.kit.places import ROOT

FOLDER = ROOT / "src" / "amble" / "bundled"
NUM_TRAIN, NUM_TEST = 10_000, 5_000
EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same data give the same file


def write(path: Path, images: Images, labels: Images) -> None:
    """Compressed .npz, whole or not at all, the same bytes at every run."""
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in {"images": images, "labels": labels}.items():
            content = io.BytesIO()
            np.save(content, np.ascontiguousarray(array))
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, 9)
    partial.replace(path)


def main() -> None:
    images, labels = original("train")
    write(FOLDER / "fashion-mnist-train.npz", images[-NUM_TRAIN:], labels[-NUM_TRAIN:])
    images, labels = original("t10k")
    write(FOLDER / "fashion-mnist-test.npz", images[:NUM_TEST], labels[:NUM_TEST])


if __name__ == "__main__":
    main()
