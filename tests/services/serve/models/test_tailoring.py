"""Models that are served as is said of each: open axes, given inputs, texts, largest batches, beside one another."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.inputs import open_for_serving
from amble.services.serve.explaining import explain
from amble.services.serve.models.configuration import parse_config
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.models.options import Options
from amble.services.serve.models.repository import find
from amble.services.serve.serving import Serve, named
from tests.services.serve.networks import APART, MIXING, chain
from tests.services.serve.test_serving import at_once, serving
from tests.services.serve.texts import encoder, quotient, saved, tokens, upper


def load(model: str, **options: Any) -> Loaded:
    device, runner, by_size = open_for_serving("host")
    name, path, said = named(model)
    loader = ModelLoader(device, runner, Options(**options), None, by_size, said={name: said})
    return loader.load(Found(name, "1", path), at_once)


def ask(at: str, model: str, **arrays: tuple[str, Any]) -> Any:
    inputs = [
        {"name": name, "datatype": kind, "shape": list(np.shape(value)), "data": np.ravel(value).tolist()}
        for name, (kind, value) in arrays.items()
    ]
    connection = http.client.HTTPConnection(at.removeprefix("http://"), timeout=30)
    connection.request("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}))
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert answer.status == 200, body
    connection.close()
    return body["outputs"]


def test_a_text_model_a_picky_one_one_of_strings_and_a_plain_one_are_served_side_by_side(tmp_path: Path) -> None:
    saved(tmp_path / "enc.onnx", encoder())
    saved(tmp_path / "quo.onnx", quotient())
    saved(tmp_path / "up.onnx", upper())
    saved(tmp_path / "plain.onnx", chain([APART["relu"]]))
    np.savez(tmp_path / "quo.npz", a=np.arange(6).reshape(3, 2), b=np.arange(1, 7).reshape(3, 2))
    models = ["text=enc.onnx?seq=32&batch=4", f"quo.onnx?examples={tmp_path}/quo.npz", "up.onnx", "plain.onnx"]
    folder = str(tmp_path)
    with serving(
        *(each.replace("enc", f"{folder}/enc") if "=" in each[:5] else f"{folder}/{each}" for each in models)
    ) as at:
        ids = tokens(5)
        out = ask(at.http, "text", **{name: ("INT64", value) for name, value in ids.items()})
        assert out[0]["shape"] == [1, 5, 4]
        (found,) = ask(at.http, "quo", a=("INT64", [[8, 9]]), b=("INT64", [[2, 3]]))
        assert found["data"] == [4, 3]
        (found,) = ask(at.http, "up", text=("BYTES", [["yes"], ["no"], ["?"]]))
        assert found["data"] == [1.0, -1.0, 0.0]
        assert ask(at.http, "plain", x=("FP32", [[1.0, -1.0, 2.0, -2.0]]))[0]["data"] == [1.0, 0.0, 2.0, 0.0]


def test_a_network_that_made_up_inputs_break_is_measured_with_given_ones(tmp_path: Path) -> None:
    path = saved(tmp_path / "quo.onnx", quotient())
    with pytest.raises(Refused, match=r"^model 'quo': .*division by zero.*examples=FILE\.npz"):
        load(f"{path}?k=2")
    np.savez(tmp_path / "quo.npz", a=np.arange(6).reshape(3, 2), b=np.arange(1, 7).reshape(3, 2))
    found = load(f"{path}?examples={tmp_path}/quo.npz", max_batch=2)
    assert found.batched
    assert "bit for bit" in found.batching
    np.savez(tmp_path / "zero.npz", a=np.arange(6).reshape(3, 2), b=np.zeros((3, 2), np.int64))
    with pytest.raises(Refused, match="division by zero"):
        load(f"{path}?examples={tmp_path}/zero.npz")


def test_the_largest_batch_is_said_of_each_model_and_refused_where_it_is_refuted(tmp_path: Path) -> None:
    path = saved(tmp_path / "plain.onnx", chain([APART["relu"]]))
    assert load(f"{path}?batch=3").ladder.max_batch == 3
    assert load(f"{path}?batch=1").ladder.max_batch == 1
    mixing = saved(tmp_path / "mix.onnx", chain([MIXING["cumulated"]]))
    with pytest.raises(Refused, match="max_batch_size 3 cannot be kept"):
        load(f"{mixing}?batch=3")


def test_what_is_wrong_names_the_model_and_the_field(tmp_path: Path) -> None:
    path = saved(tmp_path / "enc.onnx", encoder())
    for words, names in (
        ("", r"model 'enc': .*axis 1 \(seq\) of input 'input_ids' is open.*NAME=FILE\?seq=128"),
        ("?sequence=8", "model 'enc': .*sequence=8"),
        ("?seq=8&buckets=16", "model 'enc': .*buckets=16: they go beyond the length 8"),
        (f"?examples={path}", r"model 'enc': .*examples=enc\.onnx"),
    ):
        with pytest.raises(Refused, match=names):
            load(f"{path}{words}")
    with pytest.raises(Refused, match="--shape ids:…: no model that is served has such an input"):
        explain(Serve((f"{path}?seq=8",), options=Options(shapes={"ids": (1, 8)})))


def test_a_shape_of_all_models_is_for_those_that_have_the_input(tmp_path: Path) -> None:
    paths = [saved(tmp_path / "enc.onnx", encoder()), saved(tmp_path / "plain.onnx", chain([APART["relu"]]))]
    told = explain(Serve(tuple(map(str, paths)), options=Options(shapes={"input_ids": (1, 8)})))
    assert [each.batched for each in told] == [True, True]


def repository(folder: Path, **parameters: str) -> Path:
    (folder / "enc" / "1").mkdir(parents=True)
    saved(folder / "enc" / "1" / "model.onnx", encoder())
    told = {name: {"string_value": value} for name, value in parameters.items()}
    (folder / "enc" / "config.json").write_text(json.dumps({"parameters": told}))
    return folder / "enc"


def test_the_parameters_of_a_configuration_say_it_too(tmp_path: Path) -> None:
    folder = repository(tmp_path, seq="24", examples="texts.npz")
    with pytest.raises(Refused, match=r"model 'enc': .*parameters\.examples: there is no file 'texts\.npz'"):
        find(folder)
    rows = [tokens(24, seed) for seed in range(3)]
    ids, mask = (np.concatenate([each[name] for each in rows]) for name in ("input_ids", "attention_mask"))
    np.savez(folder / "texts.npz", input_ids=ids, attention_mask=mask)
    (told,) = explain(Serve((), repository=tmp_path))
    assert told.batched
    assert "16,24" in told.lengths


@pytest.mark.parametrize("file", ["../secret.npz", "/etc/hostname", "link.npz", "1/texts.npz"])
def test_files_that_a_configuration_names_are_in_the_models_own_folder(tmp_path: Path, file: str) -> None:
    folder = repository(tmp_path / "models", examples=file)
    np.savez(tmp_path / "models" / "secret.npz", x=np.zeros(1))
    np.savez(tmp_path / "secret.npz", x=np.zeros(1))
    (folder / "link.npz").symlink_to(tmp_path / "secret.npz")
    with pytest.raises(Refused, match=r"parameters\.examples: there is no file"):
        find(folder)


def test_a_parameter_that_means_nothing_to_the_network_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    repository(tmp_path, intra_op_thread_count="1")
    with pytest.raises(Refused, match="parameters: intra_op_thread_count=1: the network has no input and no open axis"):
        explain(Serve((), repository=tmp_path))
    assert parse_config({"parameters": {"lengths": {"string_value": "as told"}}}) == parse_config({})
