"""Fashion-MNIST and keywords → the small networks of `families.py`, three seeds each: `-m bench.bases.base`.

About an hour on one core. Interrupt it at any time: it continues from the last whole epoch. Weights go to
`build/train/NAME-SEED.pt`, one JSON line a network and seed to `base.jsonl`, with the digests of code and data.
The last 5,000 training images, or 19 of 101 voices, are held out; test data are looked at once, after the last epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from bench.kit import code
from bench.kit.places import BENCH, BUILD

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning OpenMP collapses as soon as another process is busy

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from amble.runtimes.torch import training
from amble.runtimes.torch.training import CrossEntropy, Epoch, Labelled, Prepare, Recipe
from bench.bases import keywords
from bench.bases.data import NUM_HELD_OUT, Images, augment, digest, original, to_input
from bench.bases.families import NETWORKS

LOG = BENCH / "bases" / "base.jsonl"
KEPT = BUILD / "train"
SEEDS = (1, 2, 3)
RECIPE = Recipe(epochs=4)
RECIPES = {"lenet": replace(RECIPE, top_rate=0.03), "keywords": Recipe(epochs=10)}  # LeNet normalises no batches


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What a network learns from, is chosen by and is judged on: inputs uint8 [N, H, W], and how they become floats."""

    learning: Labelled
    held_out: Labelled
    test: Labelled
    prepare: Prepare
    sha256: str

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of an input."""
        _, height, width = self.learning.inputs.shape
        return height, width


def data_of(network: str) -> DataSet:
    """Return the data set that a network of `families.py` is for."""
    return DATA_SETS.get(network, fashion_mnist)()


@cache
def fashion_mnist() -> DataSet:
    sha256 = digest(*original("train"), *original("t10k"))
    return DataSet(learning(), held_out(), labelled("t10k"), prepare, sha256)


@cache
def keyword_clips() -> DataSet:
    """Inputs uint8 [N, 49, 20]; SystemExit where clips are to be made and espeak-ng is missing."""
    known, held, tested = (keywords.spoken(split) for split in ("learning", "held_out", "test"))
    sha256 = digest(*known, *held, *tested)
    return DataSet(tensors(*known), tensors(*held), tensors(*tested), prepare_clips, sha256)


DATA_SETS: dict[str, Callable[[], DataSet]] = {"keywords": keyword_clips}  # all others: Fashion-MNIST


def prepare_clips(pictures: Tensor, generator: torch.Generator | None) -> Tensor:
    """uint8 [B, 49, 20] -> [B, 1, 49, 20] in [0, 1]; shifted while training."""
    return to_input(pictures if generator is None else keywords.shifted(pictures, generator))


def prepare(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """uint8 [B, 28, 28] -> [B, 1, 28, 28] in [0, 1]; shifted and flipped while training."""
    return to_input(images if generator is None else augment(images, generator))


def labelled(split: str, part: slice = slice(None)) -> Labelled:
    """Images uint8 [N, 28, 28] with their labels; "train" or "t10k"."""
    images, labels = original(split)
    return tensors(images[part], labels[part])


def tensors(images: Images, labels: Images) -> Labelled:
    return Labelled(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))


def learning() -> Labelled:
    return labelled("train", slice(-NUM_HELD_OUT))


def held_out() -> Labelled:
    return labelled("train", slice(-NUM_HELD_OUT, None))


def fresh(name: str, seed: int) -> nn.Module:
    """Return an untrained network."""
    torch.manual_seed(seed)
    return NETWORKS[name]().to(memory_format=torch.channels_last)


def trained(name: str, seed: int) -> nn.Module:
    """Return a network with its trained weights; SystemExit where this module has not made them yet."""
    network, path = fresh(name, seed), KEPT / f"{name}-{seed}.pt"
    if not path.exists():
        raise SystemExit(f"{path} is missing: run python -m bench.bases.base --networks {name} --seeds {seed}")
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def code_digest() -> str:
    """SHA-256 of the files that decide the weights."""
    here = (BENCH / "bases" / f"{name}.py" for name in ("architecture", "families", "data", "keywords", "base"))
    return code.whole(*here, Path(training.__file__))


def make(name: str, seed: int, provenance: dict[str, object]) -> None:
    """Train one network, keep its weights and log what it came to."""
    path = KEPT / f"{name}-{seed}.pt"
    if path.exists():
        print(f"{path} is there", flush=True)
        return
    network, data = fresh(name, seed), data_of(name)
    epochs = training.train(
        network,
        data.learning,
        replace(RECIPES.get(name, RECIPE), seed=seed),
        loss=CrossEntropy(),
        held_out=data.held_out,
        prepare=data.prepare,
        checkpoint=KEPT / f"{name}-{seed}.part",
        on_epoch=lambda epoch: print(name, seed, epoch, flush=True),
    )
    log(network, name, seed, epochs, {**provenance, "data_sha256": data.sha256})
    torch.save(network.state_dict(), path)
    (KEPT / f"{name}-{seed}.part").unlink()


def log(network: nn.Module, name: str, seed: int, epochs: tuple[Epoch, ...], provenance: dict[str, object]) -> None:
    data = data_of(name)
    record = {
        "network": name,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "losses": [epoch.loss for epoch in epochs],
        "held_out_accuracies": [epoch.held_out_accuracy for epoch in epochs],
        "test_accuracy": training.accuracy(network, data.test, prepare=data.prepare),
        "time_s": sum(epoch.time_s for epoch in epochs),
        **provenance,
    }
    with LOG.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(record, flush=True)


def asked(description: str | None, networks: Iterable[str]) -> argparse.Namespace:
    """Return which networks and seeds the command line names, all if it does not, and train on one thread."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(networks), default=list(networks))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    torch.set_num_threads(1)
    return parser.parse_args()


def main() -> None:
    chosen = asked(__doc__, NETWORKS)
    provenance: dict[str, object] = {"code_sha256": code_digest(), "torch": torch.__version__}
    for seed in chosen.seeds:
        for name in chosen.networks:
            make(name, seed, provenance)


if __name__ == "__main__":
    main()
