"""Write .cog/openapi_schema.json, from which Cog's server checks inputs before our code runs.

`cog build` writes this file into the image. Without Docker, this script makes it from the same
source: the signatures of `Predictor.run` and of `train`, read without running them. A test compares
it with what Cog's own parser (Go, pkg/schema) makes of the same files.

    python -m scripts.write_openapi_schema [FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent

Json = dict[str, Any]

_TYPES: dict[str, Json] = {
    "Path": {"type": "string", "format": "uri"},
    "str": {"type": "string"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
}

# Options of `Input(...)` that are copied, and what OpenAPI calls them.
_COPIED = {
    "description": "description",
    "ge": "minimum",
    "le": "maximum",
    "accept": "x-cog-accept",
}


def input_schemas(source: str, function: str, title: str) -> Json:
    """Return the OpenAPI components: the function's inputs under `title`, one enum per choice.

    Raises:
        ValueError: a default, bound or choice is no literal. (Cog drops such bounds silently.)
    """
    properties: Json = {}
    enums: Json = {}
    required = []
    for order, (name, kind, optional, options) in enumerate(_arguments(source, function)):
        entry: Json = {"x-order": order}
        if "choices" in options:
            enums[name] = {
                "title": name,
                "description": "An enumeration.",
                "enum": options["choices"],
                "type": _TYPES[kind]["type"],
            }
            entry["allOf"] = [_ref(name)]
        else:
            entry |= {"title": _title(name)} | _TYPES[kind]
        entry |= {_COPIED[key]: value for key, value in options.items() if key in _COPIED}
        if optional:
            entry["nullable"] = True
        if "default" in options and (optional or options["default"] is not None):
            entry["default"] = options["default"]
        elif not optional:
            required.append(name)
        properties[name] = entry
    inputs = {"title": title, "type": "object", "properties": properties}
    if required:
        inputs["required"] = required
    return enums | {title: inputs}


def _arguments(source: str, function: str) -> list[tuple[str, str, bool, Json]]:
    """Return name, type, whether None is allowed, and the `Input(...)` options, for each."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    found = next(f for f in functions if f.name == function).args
    arguments = [argument for argument in found.args if argument.arg != "self"]
    result = []
    for argument, default in zip(arguments, found.defaults, strict=True):
        annotation = argument.annotation
        optional = isinstance(annotation, ast.Subscript)  # Optional[...]
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.slice
        assert isinstance(default, ast.Call) and isinstance(annotation, ast.Name)
        options = {str(k.arg): ast.literal_eval(k.value) for k in default.keywords}
        result.append((argument.arg, annotation.id, optional, options))
    return result


def schema(predict_source: str, train_source: str) -> Json:
    """Return the whole document, of predictions and trainings."""
    uri = _TYPES["Path"]
    weights = {"title": _title("weights")} | uri
    outputs = {
        "Output": {"title": "Output"} | uri,
        "TrainingOutput": {
            "title": "Output",
            "type": "object",
            "properties": {"weights": weights},
            "required": ["weights"],
        },
    }
    components = input_schemas(train_source, "train", "TrainingInput")
    components |= input_schemas(predict_source, "run", "Input")  # its enums win, as in Cog
    components |= outputs | _common_components()
    components |= _exchange("Prediction", "Input", "Output")
    components |= _exchange("Training", "TrainingInput", "TrainingOutput")
    paths = {"/": _get("Root", "root__get")}
    paths["/health-check"] = _get("Healthcheck", "healthcheck_health_check_get")
    paths |= _post("prediction", "Predict", "predict_predictions_post")
    paths |= _post("training", "Train", "train_trainings_post")
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _title(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in name.split("_"))


def _ref(component: str) -> Json:
    return {"$ref": f"#/components/schemas/{component}"}


def _json_content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _string(title: str, **more: str) -> Json:
    return {"title": title, "type": "string"} | more


def _object(title: str, **properties: Json) -> Json:
    return {"title": title, "type": "object", "properties": properties}


def _common_components() -> Json:
    """Return what every Cog server's document holds: states and the form of refusals."""
    place = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    refusal = _object(
        "ValidationError",
        loc={"title": "Location", "type": "array", "items": place},
        msg=_string("Message"),
        type=_string("Error Type"),
    )
    details = {"title": "Detail", "type": "array", "items": _ref("ValidationError")}
    states = ["starting", "processing", "succeeded", "canceled", "failed"]
    return {
        "Status": _string("Status", description="An enumeration.") | {"enum": states},
        "ValidationError": refusal | {"required": ["loc", "msg", "type"]},
        "HTTPValidationError": _object("HTTPValidationError", detail=details),
    }


def _exchange(name: str, given: str, returned: str) -> Json:
    """Return the request and the response that carry inputs and output."""
    request = {"id": _string("Id"), "input": _ref(given)}
    texts = {key: _string(_title(key)) for key in ("version", "status", "error", "logs")}
    times = {
        key: _string(_title(key), format="date-time")
        for key in ("created_at", "started_at", "completed_at")
    }
    answer = request | texts | times | {"output": _ref(returned)}
    answer["metrics"] = {"title": "Metrics", "type": "object"}
    return {
        f"{name}{kind}": _object(f"{name}{kind}", **properties)
        for kind, properties in (("Request", request), ("Response", answer))
    }


def _get(summary: str, operation: str) -> Json:
    responses = {"200": {"description": "Successful Response"} | _json_content({})}
    return {"get": {"summary": summary, "operationId": operation, "responses": responses}}


def _post(kind: str, summary: str, operation: str) -> Json:
    """Return the paths that start and cancel one."""
    refused = {"description": "Validation Error"} | _json_content(_ref("HTTPValidationError"))
    done = {"description": "Successful Response"}
    start = {
        "summary": summary,
        "description": f"Run a single {kind} on the model",
        "operationId": operation,
        "requestBody": _json_content(_ref(f"{kind.title()}Request")),
        "responses": {
            "200": done | _json_content(_ref(f"{kind.title()}Response")),
            "422": refused,
        },
    }
    identity = f"{kind}_id"
    place = {"required": True, "name": identity, "in": "path", "schema": _string(_title(identity))}
    cancel = {
        "summary": "Cancel",
        "operationId": f"cancel_{kind}s__{identity}__cancel_post",
        "parameters": [place],
        "responses": {"200": done | _json_content({}), "422": refused},
    }
    return {f"/{kind}s": {"post": start}, f"/{kind}s/{{{identity}}}/cancel": {"post": cancel}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=_ROOT)
    folder = parser.parse_args().folder / ".cog"
    folder.mkdir(parents=True, exist_ok=True)
    sources = [_ROOT / "predict.py", _ROOT / "train" / "cog_train.py"]
    document = schema(*(source.read_text(encoding="utf-8") for source in sources))
    path = folder / "openapi_schema.json"
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
