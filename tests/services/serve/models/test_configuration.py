"""Every field of Triton's model configuration: done here, or refused by its name. The fields are the stubs' own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from amble.services.serve.models.configuration import Config, parse_config

DONE: dict[str, Any] = {
    "name": "m",
    "platform": "onnxruntime_onnx",
    "backend": "onnxruntime",
    "version_policy.latest.num_versions": 2,
    "version_policy.specific.versions": [3],
    "version_policy.all": {},
    "max_batch_size": 4,
    "input.name": "x",
    "input.data_type": "TYPE_FP32",
    "input.format": "FORMAT_NCHW",
    "input.dims": [3],
    "output.name": "x",
    "output.data_type": "TYPE_FP32",
    "output.dims": [3],
    "output.label_filename": "labels.txt",
    "dynamic_batching.default_queue_policy.default_timeout_microseconds": 1000,
    "dynamic_batching.default_queue_policy.max_queue_size": 5,
    "default_model_filename": "model.onnx",
}
"""What is done, with a value that says something."""
TAKEN: dict[str, Any] = {
    "dynamic_batching.default_queue_policy.timeout_action": "REJECT",
    "dynamic_batching.default_queue_policy.allow_timeout_override": True,
    "instance_group.name": "one",
    "instance_group.kind": "KIND_CPU",
    "instance_group.count": 1,
    "model_transaction_policy.decoupled": False,
}
"""What is as it is here in any case; any other value is refused."""
OTHERWISE: dict[str, Any] = {
    "platform": "tensorrt_plan",
    "backend": "python",
    "default_model_filename": "other.onnx",
    "max_batch_size": -1,
    "input.format": "FORMAT_OTHER",
    "dynamic_batching.default_queue_policy.timeout_action": "DELAY",
    "dynamic_batching.default_queue_policy.allow_timeout_override": False,
    "dynamic_batching.default_queue_policy.default_timeout_microseconds": -1,
    "dynamic_batching.default_queue_policy.max_queue_size": -1,
    "instance_group.kind": "KIND_GPU",
    "instance_group.count": 2,
    "model_transaction_policy.decoupled": True,
}
REPEATED = ("input", "output", "instance_group")


def fields(descriptor: Any, path: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Go through a message's fields, those of messages in it as well; one that holds itself is entered once."""
    for field in descriptor.fields:
        place = f"{path}.{field.name}".lstrip(".")
        inside = field.message_type
        if inside is None or not inside.fields or inside.full_name in above:
            yield place, field
        else:
            yield from fields(inside, place, (*above, inside.full_name))


def every() -> list[tuple[str, Any]]:
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError:
        return []
    found = fields(model_config_pb2.ModelConfig.DESCRIPTOR)
    return [(place, field) for place, field in found if not place.startswith("parameters.")]  # what is said: settings


def document(place: str, value: Any) -> dict[str, Any]:
    """A configuration that says one thing."""
    *above, last = place.split(".")
    made: dict[str, Any] = {last: value}
    for index in range(len(above) - 1, -1, -1):
        name = ".".join(above[: index + 1])
        made = {above[index]: [made] if name in REPEATED else made}
    return made


def something(field: Any) -> Any:
    """A value that asks for something, of a field's kind."""
    if field.message_type is not None:
        return {"something": 1}
    if field.enum_type is not None:
        return field.enum_type.values[-1].name
    return {field.CPPTYPE_STRING: "word", field.CPPTYPE_BOOL: True}.get(field.cpp_type, 7)


@pytest.mark.parametrize(("place", "field"), every())
def test_a_field_is_done_or_refused_by_its_name(place: str, field: Any) -> None:
    if place in DONE:
        assert parse_config(document(place, DONE[place])) != Config() or place in OTHERWISE
    elif place in TAKEN:
        assert parse_config(document(place, TAKEN[place])) == Config()
    else:
        with pytest.raises(ValueError, match="is not done here") as refused:
            parse_config(document(place, something(field)))
        refused_at = str(refused.value).removeprefix("model configuration: ").split(" ")[0].rstrip(":")
        assert place == refused_at or place.startswith(f"{refused_at}.")


def test_there_are_no_fields_in_the_table_that_there_are_not() -> None:
    known = {place for place, _ in every()}
    if not known:
        pytest.skip("no stubs")
    assert {*DONE, *TAKEN, *OTHERWISE} <= known
    assert len(known) > 100


@pytest.mark.parametrize("place", OTHERWISE)
def test_a_field_that_is_done_is_refused_where_its_value_is_not(place: str) -> None:
    with pytest.raises(ValueError, match=place.split(".")[-1] if "." not in place else place.split(".")[-2]):
        parse_config(document(place, OTHERWISE[place]))


@pytest.mark.parametrize("name", ["sequence_batching", "ensemble_scheduling"])
def test_a_scheduler_that_is_not_here_is_refused_even_when_it_is_empty(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not done here: models"):
        parse_config({name: {}})


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("model_transaction_policy.decoupled", "every request has one answer"),
        ("dynamic_batching.max_queue_delay_microseconds", "nobody is delayed for it"),
        ("model_warmup", "it was measured"),
        ("input.allow_ragged_batch", "by padding, where that was tried"),
    ],
)
def test_what_is_often_asked_for_is_refused_with_a_reason(place: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_config(document(place, [{"name": "w"}] if place == "model_warmup" else 1))
