"""Fashion-MNIST → the small networks of `families.py`, three seeds each: `python train/base.py`.

About an hour on one core. Interrupt it at any time: it continues from the last whole epoch. Weights go to
`build/train/NAME-SEED.pt`, one JSON line a network and seed to `train/base.jsonl`, with the digests of code and data.
The last 5,000 training images are held out; the test images are looked at once, after the last epoch.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning OpenMP collapses as soon as another process is busy

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from data import NUM_HELD_OUT, augment, digest, original, to_input
from families import NETWORKS
from torch import Tensor, nn

from amble.adapt.learning import training
from amble.adapt.learning.training import CrossEntropy, Epoch, Labelled, Recipe

HERE = Path(__file__).parent
LOG = HERE / "base.jsonl"
KEPT = HERE.parent / "build" / "train"
SEEDS = (1, 2, 3)
RECIPE = Recipe(epochs=4)


def prepare(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """uint8 [B, 28, 28] -> [B, 1, 28, 28] in [0, 1]; shifted and flipped while training."""
    return to_input(images if generator is None else augment(images, generator))


def labelled(split: str, part: slice = slice(None)) -> Labelled:
    """Images uint8 [N, 28, 28] with their labels; "train" or "t10k"."""
    images, labels = original(split)
    return Labelled(torch.from_numpy(images[part].copy()), torch.from_numpy(labels[part].astype(np.int64)))


def learning() -> Labelled:
    return labelled("train", slice(-NUM_HELD_OUT))


def held_out() -> Labelled:
    return labelled("train", slice(-NUM_HELD_OUT, None))


def fresh(name: str, seed: int) -> nn.Module:
    """Return an untrained network."""
    torch.manual_seed(seed)
    return NETWORKS[name]().to(memory_format=torch.channels_last)


def trained(name: str, seed: int) -> nn.Module:
    """Return a network with its trained weights; SystemExit where `python train/base.py` has not made them yet."""
    network, path = fresh(name, seed), KEPT / f"{name}-{seed}.pt"
    if not path.exists():
        raise SystemExit(f"{path} is missing: run python train/base.py --networks {name} --seeds {seed}")
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def code_digest() -> str:
    """SHA-256 of the files that decide the weights."""
    files = [HERE / name for name in ("architecture.py", "families.py", "data.py", "base.py")] + [
        Path(training.__file__)
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def make(name: str, seed: int, provenance: dict[str, object]) -> None:
    """Train one network, keep its weights and log what it came to."""
    path = KEPT / f"{name}-{seed}.pt"
    if path.exists():
        print(f"{path} is there", flush=True)
        return
    network = fresh(name, seed)
    rate = 0.03 if name == "lenet" else RECIPE.top_rate  # without batch normalisation
    recipe = Recipe(RECIPE.epochs, top_rate=rate, seed=seed)
    epochs = training.train(
        network,
        learning(),
        recipe,
        loss=CrossEntropy(),
        held_out=held_out(),
        prepare=prepare,
        checkpoint=KEPT / f"{name}-{seed}.part",
        on_epoch=lambda epoch: print(name, seed, epoch, flush=True),
    )
    log(network, name, seed, epochs, provenance)
    torch.save(network.state_dict(), path)
    (KEPT / f"{name}-{seed}.part").unlink()


def log(network: nn.Module, name: str, seed: int, epochs: tuple[Epoch, ...], provenance: dict[str, object]) -> None:
    record = {
        "network": name,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "losses": [epoch.loss for epoch in epochs],
        "held_out_accuracies": [epoch.held_out_accuracy for epoch in epochs],
        "test_accuracy": training.accuracy(network, labelled("t10k"), prepare=prepare),
        "time_s": sum(epoch.time_s for epoch in epochs),
        **provenance,
    }
    with LOG.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(record, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    provenance: dict[str, object] = {
        "code_sha256": code_digest(),
        "data_sha256": digest(*original("train"), *original("t10k")),
        "torch": torch.__version__,
    }
    for seed in chosen.seeds:
        for name in chosen.networks:
            make(name, seed, provenance)


if __name__ == "__main__":
    main()
