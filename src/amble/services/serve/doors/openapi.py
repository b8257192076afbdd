"""The HTTP interface as an OpenAPI document: what can be asked, and what every answer looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from amble.runtimes.remote.datatypes import DATATYPES

__all__ = ["document"]

Json = dict[str, Any]


def document(version: str, served: Mapping[str, Sequence[str]]) -> Json:
    """Return the document; ``served`` are the models and their versions."""
    numbers = sorted({each for versions in served.values() for each in versions})
    model = [_path("model", list(served))]
    both = [*model, _path("version", numbers)]
    paths: Json = {
        "/v2": {"get": _call("Describe the server", _ref("Server"))},
        "/v2/health/live": {"get": _call("Tell that it runs", _object("live"))},
        "/v2/health/ready": {"get": _call("Tell whether it takes requests", _object("ready"), 503)},
        "/v2/models/stats": {"get": _call("Count, for all models", _object("model_stats"))},
        "/v2/repository/index": {"post": _call("List what can be served", {"type": "array"}, 400, body=_INDEX)},
        "/v2/openapi.json": {"get": _call("Give this document", _object("openapi"))},
    }
    for root, parameters in (("/v2/models/{model}", model), ("/v2/models/{model}/versions/{version}", both)):
        for end, about, schema, statuses in (
            ("", "Describe a model", _ref("Model"), (404,)),
            ("/ready", "Tell whether a model is served", _object("name", "ready"), (503,)),
            ("/config", "Give a model's configuration", _object("name", "max_batch_size", "input", "output"), (404,)),
            ("/stats", "Count, for one model", _object("model_stats"), (404,)),
        ):
            paths[root + end] = {"get": _call(about, schema, *statuses, parameters=parameters)}
        answer = _call("Answer a request", _ref("Response"), 400, 404, 503, parameters=parameters, body=_ref("Request"))
        paths[root + "/infer"] = {"post": answer}
        for end, kind in (("/generate", "application/json"), ("/generate_stream", "text/event-stream")):
            about = "Answer a request whose inputs are given as they are, by name"
            made = _call(about, {"type": "object"}, 503, parameters=parameters, body=_ref("Generate"))
            made["responses"]["200"]["content"] = {kind: {"schema": _ref("Generated")}}
            paths[root + end] = {"post": made}
    paths |= _first_version(model, both)
    for verb in ("load", "unload"):
        changed = _call(f"{verb.capitalize()} a model", {"type": "object"}, 400, 404, parameters=model, body=_INDEX)
        paths[f"/v2/repository/models/{{model}}/{verb}"] = {"post": changed}
    info = {"title": "amble: Open Inference Protocol", "version": version}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": _SCHEMAS}}


def _first_version(model: list[Json], both: list[Json]) -> Json:
    """Describe KServe's protocol V1."""
    predicted = partial(_call, "Predict", _ref("Predictions"), 503, body=_ref("Instances"))
    return {
        "/v1/models": {"get": _call("List what is served", _object("models"))},
        "/v1/models/{model}": {
            "get": _call("Tell whether a model is served", _object("name", "ready"), 503, parameters=model)
        },
        "/v1/models/{model}:predict": {"post": predicted(parameters=model)},
        "/v1/models/{model}/versions/{version}:predict": {"post": predicted(parameters=both)},
    }


_INDEX: Json = {"type": "object"}
_TEXT: Json = {"type": "string"}
_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds from arrival to answer; 0: none."},
        "priority": {"type": "integer", "minimum": 0, "maximum": 65535, "description": "1 is the highest, 0 none."},
        "binary_data_output": {"type": "boolean"},
    },
}
_TENSOR: Json = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": _TEXT,
        "datatype": {"enum": list(DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
_PORT: Json = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {"shape": {"type": "array", "items": {"type": "integer", "minimum": -1}}},
}


def _object(*required: str) -> Json:
    return {"type": "object", "required": list(required)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_SCHEMAS: Json = {
    "Generate": {"type": "object", "properties": {"id": _TEXT, "parameters": _PARAMETERS}, "minProperties": 1},
    "Generated": {"type": ["object", "string"], "required": ["model_name", "model_version"]},
    "Instances": {
        "type": "object",
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "properties": {
            "instances": {"type": "array", "minItems": 1, "description": "Rows: of one input, or objects by input."},
            "inputs": {"description": "Columns: of one input, or an object of them by input."},
            "parameters": _PARAMETERS,
        },
        "additionalProperties": False,
    },
    "Predictions": {
        "type": "object",
        "required": ["parameters"],
        "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
        "properties": {"predictions": {"type": "array"}, "parameters": {"type": "object"}},
    },
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
    "Server": _object("name", "version", "extensions"),
    "Model": {
        **_object("name", "versions", "platform", "inputs", "outputs"),
        "properties": {
            "versions": {"type": "array", "items": _TEXT},
            "inputs": {"type": "array", "items": _PORT},
            "outputs": {"type": "array", "items": _PORT},
        },
    },
    "Request": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
            "outputs": {
                "type": "array",
                "items": {"type": "object", "required": ["name"], "properties": {"name": _TEXT}},
            },
            "parameters": _PARAMETERS,
        },
    },
    "Response": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs", "parameters"],
        "properties": {"id": _TEXT, "outputs": {"type": "array", "items": _TENSOR}, "parameters": {"type": "object"}},
    },
}


def _path(name: str, values: list[str]) -> Json:
    schema = {**_TEXT, "enum": values} if values else _TEXT
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _call(
    about: str, schema: Json, *statuses: int, parameters: list[Json] | None = None, body: Json | None = None
) -> Json:
    """Describe one call: what it gives, and with which other statuses an error may come."""
    error = {"description": "What is wrong", "content": {"application/json": {"schema": {"type": "object"}}}}
    told = {"description": "As asked", "content": {"application/json": {"schema": schema}}}
    made: Json = {"summary": about, "responses": {"200": told, **{str(status): error for status in statuses}}}
    if parameters:
        made["parameters"] = parameters
        made["responses"].setdefault("404", error)
    if body is not None:
        made["requestBody"] = {"required": False, "content": {"application/json": {"schema": body}}}
        made["responses"].update({str(status): error for status in (400, 413)})
    return made
