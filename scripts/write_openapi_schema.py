"""Writes .cog/openapi_schema.json, from which Cog's server checks inputs before our code runs.

`cog build` writes this file into the image. Without Docker, this script makes it from the same
source: the signatures of `Predictor.predict` and of `train`, read without running them.

    python -m scripts.write_openapi_schema [FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent

_TYPES: dict[str, dict[str, str]] = {
    "Path": {"type": "string", "format": "uri"},
    "str": {"type": "string"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
}


def input_schemas(source: str, function: str, title: str) -> dict[str, Any]:
    """The OpenAPI components: the function's inputs under `title`, one enum for each choice.

    Raises:
        ValueError: a default, bound or choice is no literal, which `cog build` refuses as well.
    """
    properties: dict[str, Any] = {}
    components: dict[str, Any] = {}
    required = []
    arguments = _arguments(source, function)
    for order, (name, annotation, options) in enumerate(arguments):
        entry: dict[str, Any] = {"title": name.replace("_", " ").title(), "x-order": order}
        entry["description"] = options.get("description", "")
        if "choices" in options:
            components[name] = _TYPES[annotation] | {
                "title": name,
                "description": "An enumeration.",
                "enum": options["choices"],
            }
            entry["allOf"] = [{"$ref": f"#/components/schemas/{name}"}]
        else:
            entry |= _TYPES[annotation]
        for bound, key in (("ge", "minimum"), ("le", "maximum")):
            if bound in options:
                entry[key] = options[bound]
        if "default" not in options:
            required.append(name)
        elif options["default"] is not None:
            entry["default"] = options["default"]
        properties[name] = entry
    components[title] = {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": required,
    }
    return components


def _arguments(source: str, function: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, annotation and `Input(...)` options of each argument but `self`."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    found = next(f for f in functions if f.name == function).args
    arguments = [argument for argument in found.args if argument.arg != "self"]
    result = []
    for argument, default in zip(arguments, found.defaults, strict=True):
        annotation = argument.annotation
        if isinstance(annotation, ast.Subscript):  # Optional[...]
            annotation = annotation.slice
        assert isinstance(default, ast.Call) and isinstance(annotation, ast.Name)
        options = {str(k.arg): ast.literal_eval(k.value) for k in default.keywords}
        result.append((argument.arg, annotation.id, options))
    return result


def schema(predict_source: str, train_source: str) -> dict[str, Any]:
    """The whole document."""
    output = {"type": "string", "format": "uri"}
    components = input_schemas(predict_source, "predict", "Input")
    components["Output"] = {"title": "Output"} | output
    components |= _exchange("Prediction", "Input", "Output")
    components |= input_schemas(train_source, "train", "TrainingInput")
    components["TrainingOutput"] = {
        "title": "TrainingOutput",
        "type": "object",
        "properties": {"weights": {"title": "Weights"} | output},
        "required": ["weights"],
    }
    components |= _exchange("Training", "TrainingInput", "TrainingOutput")
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {},
        "components": {"schemas": components},
    }


def _exchange(name: str, given: str, returned: str) -> dict[str, Any]:
    """The request and the response that carry inputs and output."""
    request = {"input": {"$ref": f"#/components/schemas/{given}"}}
    response = request | {"output": {"$ref": f"#/components/schemas/{returned}"}}
    return {
        f"{name}{kind}": {"title": f"{name}{kind}", "type": "object", "properties": properties}
        for kind, properties in (("Request", request), ("Response", response))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=_ROOT)
    folder = parser.parse_args().folder / ".cog"
    folder.mkdir(parents=True, exist_ok=True)
    sources = [_ROOT / "predict.py", _ROOT / "train" / "cog_train.py"]
    document = schema(*(source.read_text(encoding="utf-8") for source in sources))
    path = folder / "openapi_schema.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
