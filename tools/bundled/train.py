"""Fashion-MNIST -> the bundled network: `python -m tools.bundled.train` trains, tests once and exports to ONNX.

Runs in about half an hour on two cores. Interrupt it at any time: it continues from the last whole epoch and ends
with the same weights, as far as torch is deterministic for one number of threads. One JSON line an epoch goes to
`fashion-resnet.jsonl`, with the digests of code and data. The last 5,000 training images are held out; the
10,000 test images are looked at once, after the last epoch.
"""

from __future__ import annotations

import os

from bench.bases import architecture, data
from bench.kit import code
from bench.kit.places import BUILD, ROOT

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning OpenMP collapses as soon as another process is busy

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from bench.bases.architecture import network
from bench.bases.data import NUM_HELD_OUT, augment, digest, original, to_input
from bench.bases.export import finish

LOG = ROOT / "tools" / "bundled" / "fashion-resnet.jsonl"
CHECKPOINT = BUILD / "train" / "fashion-resnet.pt"
BATCH = 128
TOP_RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-4


@dataclass(frozen=True, slots=True)
class Split:
    """Images uint8 [N, 28, 28] and labels int64 [N]."""

    images: Tensor
    labels: Tensor


@dataclass(slots=True)
class Run:
    """All that changes while training; what a checkpoint holds."""

    model: nn.Module
    optimiser: torch.optim.SGD
    schedule: OneCycleLR
    epochs: int
    epoch: int = 0

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimiser": self.optimiser, "schedule": self.schedule}
        return {"epoch": self.epoch, **{name: part.state_dict() for name, part in parts.items()}}

    def load(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


def code_digest() -> str:
    """SHA-256 of the files that decide the weights."""
    return code.whole(Path(architecture.__file__), Path(data.__file__), Path(__file__))


def split(name: str, part: slice = slice(None)) -> Split:
    images, labels = original(name)
    return Split(torch.from_numpy(images[part].copy()), torch.from_numpy(labels[part].astype(np.int64)))


def start(epochs: int, num_images: int, seed: int) -> Run:
    torch.manual_seed(seed)
    model = network().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), TOP_RATE, MOMENTUM, weight_decay=DECAY, nesterov=True)
    steps = epochs * (num_images // BATCH)
    return Run(model, optimiser, OneCycleLR(optimiser, TOP_RATE, steps, pct_start=0.25), epochs)


def train_batch(run: Run, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """One step; loss and accuracy on the batch before it."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = run.model(to_input(images))
    loss = nn.functional.cross_entropy(logits.float(), labels)
    run.optimiser.zero_grad()
    loss.backward()
    run.optimiser.step()
    run.schedule.step()
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()


def train_epoch(run: Run, data: Split, seed: int) -> dict[str, float]:
    """One pass in an order and with shifts that depend on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 1_000 + run.epoch)
    order = torch.randperm(len(data.labels), generator=generator)
    batches = order[: len(order) // BATCH * BATCH].split(BATCH)
    run.model.train()
    begin_s, scores = time.perf_counter(), []
    for done, batch in enumerate(batches, 1):
        scores.append(train_batch(run, augment(data.images[batch], generator), data.labels[batch]))
        if done % 20 == 0:
            report(run, done / len(batches), time.perf_counter() - begin_s)
    run.epoch += 1
    loss, accuracy = np.mean(scores, axis=0)
    return {"train_loss": float(loss), "train_accuracy": float(accuracy), "time_s": time.perf_counter() - begin_s}


def report(run: Run, share: float, elapsed_s: float) -> None:
    left_s = elapsed_s / share * (run.epochs - run.epoch - share)
    print(f"epoch {run.epoch + 1}/{run.epochs} {share:4.0%}, about {left_s / 60:.0f} min left", flush=True)


def accuracy(model: nn.Module, data: Split) -> float:
    """Share of right answers, in FP32."""
    model.eval()
    with torch.inference_mode():
        answers = [model(to_input(images)).argmax(1) for images in data.images.split(250)]
    return (torch.cat(answers) == data.labels).float().mean().item()  # type: ignore[no-any-return]


def save(run: Run, code: str) -> None:
    """Write the checkpoint whole or not at all."""
    CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
    partial = CHECKPOINT.with_suffix(".partial")
    torch.save({"code": code, **run.state()}, partial)
    partial.replace(CHECKPOINT)


def resume(run: Run, code: str) -> None:
    """Continue from a checkpoint of this very code, or begin; the log keeps the epochs that the checkpoint has."""
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True)
        if state["code"] != code:
            raise SystemExit(f"{CHECKPOINT} was made by other code: delete it to begin again")
        run.load(state)
    lines = LOG.read_text().splitlines(keepends=True) if run.epoch else []
    LOG.write_text("".join(lines[: run.epoch]))


def log(**record: object) -> None:
    with LOG.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(record, flush=True)


def fit(run: Run, seed: int, provenance: dict[str, object]) -> None:
    """All epochs that are left, a checkpoint and a line of log after each."""
    learn, held_out = split("train", slice(-NUM_HELD_OUT)), split("train", slice(-NUM_HELD_OUT, None))
    while run.epoch < run.epochs:
        scores = train_epoch(run, learn, seed)
        log(epoch=run.epoch, **scores, held_out_accuracy=accuracy(run.model, held_out), **provenance)
        save(run, str(provenance["code_sha256"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    run = start(chosen.epochs, len(original("train")[1]) - NUM_HELD_OUT, chosen.seed)
    provenance: dict[str, object] = {
        "code_sha256": code_digest(),
        "data_sha256": digest(*original("train"), *original("t10k")),
        "torch": torch.__version__,
        **vars(chosen),
    }
    resume(run, code_digest())
    fit(run, chosen.seed, provenance)
    log(**finish(run.model, accuracy(run.model, split("t10k"))), **provenance)


if __name__ == "__main__":
    main()
