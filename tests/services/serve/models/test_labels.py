"""Names of classes: from a configuration and from the command line, in answers over both protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.services.serve.doors.classes import classified
from amble.services.serve.doors.protocol import decode, encode
from amble.services.serve.models.configuration import Config, parse_config
from amble.services.serve.models.labels import labels_of
from amble.services.serve.models.model import Found, Model
from amble.services.serve.models.settings import Settings
from amble.services.serve.requests.asking import Answer
from tests.services.serve.house import KINDS, loaded
from tests.services.serve.models.test_tailoring import load
from tests.services.serve.networks import APART, chain
from tests.services.serve.texts import saved

OUTPUTS = (Port("scores", (-1, 3), "float"), Port("box", (-1, 4), "float"))


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n\n")
    return path


def test_classes_have_their_names_where_there_are_some() -> None:
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    assert classified(scores, 2, True, ("cat", "dog", "")).tolist() == [["0.700000:1:dog", "0.200000:2"]]
    assert classified(scores, 1, True).tolist() == [["0.700000:1"]]


def test_the_file_of_a_configuration_is_read_for_its_output(names: Path) -> None:
    found = Found("net", "1", Path("x"), Config("net", labels={"scores": names}))
    assert labels_of(found, Settings(), OUTPUTS) == {"scores": ("cat", "dog", "")}
    alone = Found("net", "1", Path("x"))
    assert labels_of(alone, Settings(labels=names, said="net?…"), OUTPUTS[:1]) == {"scores": ("cat", "dog", "")}


def test_names_that_are_not_as_many_as_classes_are_refused(names: Path, tmp_path: Path) -> None:
    names.write_text("background\ncat\ndog\nbird\n")
    found = Found("net", "1", Path("x"), Config("net", labels={"scores": names}))
    with pytest.raises(Refused, match=r"model 'net': labels\.txt has 4 names.*'scores' has 3 classes"):
        labels_of(found, Settings(), OUTPUTS)
    names.write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match=r"labels in labels\.txt cannot be read"):
        labels_of(found, Settings(), OUTPUTS)
    with pytest.raises(Refused, match="it has several outputs"):
        labels_of(Found("net", "1", Path("x")), Settings(labels=names, said="net?…"), OUTPUTS)


def test_answers_over_http_have_them_and_a_configuration_tells_them(tmp_path: Path) -> None:
    made = loaded(KINDS["plain"])
    config = Config("plain", labels={"x_out": tmp_path / "labels.txt"}, formats={"x": "FORMAT_NHWC"})
    told = Model(Found("plain", "1", Path("x"), config), made).config()
    assert told["output"][0]["label_filename"] == "labels.txt"
    assert told["input"][0]["format"] == "FORMAT_NHWC"
    again = parse_config(told)
    assert again.labels == {"x_out": Path("labels.txt")}
    asked = decode(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}],'
        b'"outputs":[{"name":"x_out","parameters":{"classification":1}}]}'
    )
    answer = Answer("plain", "1", "", {"x_out": np.array([[2.0, 4.0]])}, {}, labels={"x_out": ("cat", "dog")})
    assert b'"4.000000:1:dog"' in encode(answer, asked)[0]


def test_answers_over_grpc_have_them(tmp_path: Path) -> None:
    service_pb2 = pytest.importorskip("tritonclient.grpc").service_pb2
    from amble.services.serve.doors.messages import response_of

    asked = decode(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}],'
        b'"outputs":[{"name":"y","parameters":{"classification":1}}]}'
    )
    answer = Answer("plain", "1", "", {"y": np.array([[2.0, 4.0]])}, {}, labels={"y": ("cat", "dog")})
    assert b"4.000000:1:dog" in response_of(answer, asked, service_pb2.ModelInferResponse).raw_output_contents[0]


def test_a_model_that_is_named_takes_them_too(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", chain([APART["relu"]]))
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    assert load(f"{path}?labels={tmp_path}/labels.txt", max_batch=2).labels == {"y": ("a", "b", "c", "d")}
