"""Shapes and inputs of a network from what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.services.serve.models.samples import Samples, open_axes, shapes
from amble.services.serve.models.settings import Settings
from tests.services.serve.texts import encoder, saved

AXES = {"ids": ("n", "seq"), "mask": ("n", "seq"), "scale": (), "image": ("n", 3, "h", "w")}


def said(**sizes: tuple[int, ...]) -> Settings:
    return Settings(sizes, said="net?…")


def test_axes_are_read_without_the_weights(tmp_path: Path) -> None:
    axes = open_axes(saved(tmp_path / "net.onnx", encoder()))
    assert axes == {"input_ids": ("n", "seq"), "attention_mask": ("n", "seq")}
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(Refused, match="not an ONNX file"):
        open_axes(tmp_path / "bad.onnx")


def test_a_symbol_binds_all_its_axes_and_an_input_its_whole_shape() -> None:
    found = shapes(AXES, said(seq=(8,), image=(1, 3, 32, 16)), None)
    assert found == {"ids": (1, 8), "mask": (1, 8), "image": (1, 3, 32, 16)}
    assert shapes({"x": ("n", 4)}, said(), None) == {}, "nothing but the batch is open"


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ({"length": (8,)}, "length=8: the network has no input and no open axis"),
        ({"seq": (1, 8)}, "seq=1,8"),
        ({"image": (1, 3, 32)}, "image=1,3,32: the network takes"),
        ({"image": (1, 4, 32, 32)}, "image=1,4,32,32"),
    ],
)
def test_what_the_network_has_not_is_refused_by_name(sizes: dict[str, tuple[int, ...]], names: str) -> None:
    with pytest.raises(Refused, match=r"^net\?…: ") as refused:
        shapes(AXES, said(**sizes), None)
    assert names in str(refused.value)


def samples(folder: Path, **arrays: object) -> Samples:
    np.savez(folder / "given.npz", **arrays)  # type: ignore[arg-type]
    return Samples.read(folder / "given.npz", "net?…", dict.fromkeys(arrays, ()))


def test_examples_give_shapes_and_are_what_inputs_are_fed(tmp_path: Path) -> None:
    ids, words = np.arange(12).reshape(3, 4), np.array([["a", "b"], ["c", "d"], ["e", "f"]])
    given = samples(tmp_path, ids=ids, words=words)
    assert shapes({"ids": ("n", "seq"), "words": ("n", "k")}, said(), given) == {"ids": (1, 4), "words": (1, 2)}
    drawn = given.draw((Port("ids", (2, 3), "int64"), Port("words", (2, 2), "string")), 2)
    assert drawn["ids"].tolist() == [[8, 9, 10], [0, 1, 2]], "from the third on, cut to the length"
    assert drawn["words"].tolist() == [["e", "f"], ["a", "b"]]
    assert drawn["words"].dtype == object
    alone = given.draw((Port("ids", (4,), "int64"),), 4)
    assert alone["ids"].tolist() == [4, 5, 6, 7], "an input without a batch takes one example"


def test_examples_that_do_not_fit_are_refused_by_file_and_input(tmp_path: Path) -> None:
    given = samples(tmp_path, ids=np.arange(12).reshape(3, 4))
    for port in (Port("ids", (1, 5), "int64"), Port("ids", (1, 4, 1), "int64")):
        with pytest.raises(Refused, match=r"examples=given\.npz: an example of 'ids'"):
            given.draw((port,), 0)
    with pytest.raises(Refused, match="'ids'"):
        samples(tmp_path, ids=np.zeros((3, 4))).draw((Port("ids", (1, 4), "int64"),), 0)
    with pytest.raises(Refused, match=r"examples=given\.npz lacks the array 'mask'"):
        Samples.read(tmp_path / "given.npz", "net?…", {"ids": (), "mask": ()})
