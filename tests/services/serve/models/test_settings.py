"""What is said of one model: after its name, and among the parameters of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.services.serve.models.settings import Settings, configured, parted, read


def test_words_after_a_question_mark_are_read(tmp_path: Path) -> None:
    examples = tmp_path / "a b+c.npz"
    examples.touch()
    found = read(f"seq=128&ids=1,128&examples={tmp_path}/a%20b+c.npz&batch=8&buckets=32,128", "net?…")
    assert found.sizes == {"seq": (128,), "ids": (1, 128)}
    assert (found.examples, found.batch, found.buckets) == (examples, 8, (32, 128))
    assert read("buckets=none", "net").buckets == ()
    assert not read("", "net")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("seq", "'seq' is not like"),
        ("seq=", "'seq=' is not like"),
        ("seq=1&seq=2", "'seq' comes twice"),
        ("seq=many", "seq=many: sizes from 1 on"),
        ("seq=0", "seq=0"),
        ("batch=2,3", "batch=2,3"),
        ("batch=-1", "batch=-1"),
        ("buckets=64,32", "buckets=64,32: lengths must rise"),
        ("examples=nowhere.npz", "examples=nowhere.npz: there is no such file"),
        ("labels=nowhere.txt", "labels=nowhere.txt: there is no such file"),
    ],
)
def test_what_is_wrong_is_refused_by_model_and_word(words: str, names: str) -> None:
    with pytest.raises(Refused, match=r"^net\?…: ") as refused:
        read(words, "net?…")
    assert names in str(refused.value)


def test_parameters_of_a_configuration_say_the_same() -> None:
    found = configured({"seq": {"string_value": "128"}, "buckets": {"string_value": "64"}, "examples": "texts.npz"})
    assert (found.sizes, found.buckets, found.examples) == ({"seq": (128,)}, (64,), Path("texts.npz"))
    assert configured({name: {"string_value": value} for name, value in found.words.items()}) == found
    with pytest.raises(ValueError, match=r"parameters\.batch: say max_batch_size"):
        configured({"batch": {"string_value": "8"}})
    with pytest.raises(ValueError, match=r"parameters\.seq: a string_value"):
        configured({"seq": {"string_value": [1]}})
    with pytest.raises(ValueError, match="parameters: speed"):
        configured({"speed": {"string_value": "high"}})


def test_a_file_with_a_question_mark_in_its_name_is_a_file(tmp_path: Path) -> None:
    odd = tmp_path / "what?.onnx"
    odd.touch()
    assert parted(str(odd)) == (str(odd), "")
    assert parted(f"net={odd}") == (f"net={odd}", "")
    assert parted(f"{tmp_path}/net.onnx?examples={odd}") == (f"{tmp_path}/net.onnx", f"examples={odd}")


def test_what_a_configuration_says_goes_before_what_was_said_at_the_start() -> None:
    start, config = Settings({"a": (1,), "b": (2,)}, batch=4, said="start"), Settings({"a": (3,)}, said="config")
    both = config.over(start)
    assert (both.sizes, both.batch, both.said) == ({"a": (3,), "b": (2,)}, 4, "config")
    assert Settings(said="config").over(start).said == "start"
